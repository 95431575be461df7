// The order of search results: chapters before other pages, the API and the index last.
var Scorer = {
  score: ([page, , , description, score]) => {
    if (page === "book/api" || page === "genindex" || description) return score - 200;
    return page.startsWith("notebooks/") ? score + 3 : score;
  },
  // as in Sphinx
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
