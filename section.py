# %% [markdown]
# **As the paper has it.** VL-JEPA predicts no visual tokens. From visual tokens and a *question* it predicts the embedding of the *answer*, a text; InfoNCE tells the answer from those of the rest of the batch {cite:p}`chen2025vljepa`. Vision and question go into one transformer, {class}`~jepa_utils.models.vision_language.QueryPredictor`, and a text encoder reads the answers.
#
# Does it read the question? With two objects in a picture, "what is left of the blue square" can be answered without the relation: name the object that is not the blue square. So there are three here, in a row or a column. The one in the middle has a neighbour on either side, and "left of" and "right of" it have different answers in the same picture.

# %%
test_scenes = ju.triples(settings.gallery, split="test", seed=2)
asked = ju.object_questions(test_scenes)
print(asked.questions[0], "->", asked.answers[0])
print(asked.inverted[0], "->", asked.rivals[0])

# %% [markdown]
# The training is the record's, made by `jepa train questions`. All of its settings, the search for the learning rate included, were chosen on validation scenes; no set of three objects is in two splits.

# %%
if profile == "smoke":  # something to load, in seconds
    places = dict(folder=results, checkpoints=results, name="page")
    places |= dict(encoder=settings.checkpoint, say=lambda line: None)
    ju.question_record(ju.QuestionRecipe.tiny(), **places)
answered = ju.read_record(results / "questions" / "page.json")
plan = answered["settings"]


def share(part, row, score="object, right", when="scores"):
    runs = [run for run in answered["runs"] if run["part"] == part]
    return np.array([run[when][score] for run in runs if run["row"] == row])


# %% [markdown]
# The networks of its first seed are loaded. To spare the transformer, four neighbouring tokens of the frozen eye are laid side by side into one: 64 become 16, four times as long, and nothing is lost.

# %%
path = results / "questions" / "page_main.safetensors"
card_words = ju.read_card(path)["words"]
reader = ju.CaptionTokenizer(
    ju.Vocabulary(tuple(card_words), tuple(card_words.values()))
)
sizes = {name: plan[name] for name in ("width", "layers")}
networks = ju.QuestionRecipe(**sizes).networks(ju.QuestionRow(), len(reader))
(predictor, answer_text), _ = ju.load_weights(nn.ModuleList(networks), path)
test_tokens = ju.folded(ju.frozen_tokens(encoder, test_scenes.images))

# %% [markdown]
# An answer is the nearest of all that are possible, by cosine:

# %%
choices = sorted({*asked.answers, *asked.rivals})
known = F.normalize(ju.embed(answer_text, *reader(choices)), dim=1)


def answer(questions):
    guess = ju.embed(predictor, test_tokens, *reader(questions))
    return [choices[i] for i in (guess @ known.T).argmax(dim=1)]


# %% [markdown]
# The first scenes of the test, each with its question, and with the question inverted:

# %% tags=["hide-input"]
said, said_inverted = answer(asked.questions), answer(asked.inverted)


def asked_and_said(question, word, right):
    mark = "right" if word == right else f"wrong: {right}"
    return f"{question}?\n{word} ({mark})"


with ju.figure_style():
    fig, axes = plt.subplots(1, 3, figsize=(9, 3.6))
    for i, ax in enumerate(axes):
        ax.imshow(test_scenes.images[i].permute(1, 2, 0).numpy())
        ax.set(xticks=[], yticks=[])
        lines = (
            asked_and_said(asked.questions[i], said[i], asked.answers[i]),
            asked_and_said(
                asked.inverted[i], said_inverted[i], asked.rivals[i]
            ),
        )
        ax.set_title(lines[0], fontsize=9)
        ax.set_xlabel(lines[1], fontsize=9)
ju.show_figure(
    fig,
    caption=(
        "Three scenes of the test with what the network answers: above each "
        "the question, below it the same question with the relation inverted."
    ),
    alt=(
        "Three small pictures of three coloured shapes each, in a row or a "
        "column, with a question and the network's answer above, and the "
        "inverted question and its answer below."
    ),
)

# %% [markdown]
# Four scores, over {glue:text}`vl-answers-scenes:,` scenes. *Right*: the nearest of all {glue:text}`vl-answers-choices:.0f` answers is the right one; whoever reads all but the relation names one of two, and gets a half at most. *Of two*: the right object is nearer than the one on the other side; chance is one half. *Inverted*: the same preference, for the same object, when the question asks for the other side; whoever reads the relation falls far below one half. *Another's*: right, when the next scene's question is put.
#
# The same training with visual tokens that went through a **vocabulary**. A generative model with visual words replaces each token by the nearest of $K$ centres, found by k-means; the notes call that the tokenization problem and name the loss of information first. Here it is measured, everything else being equal.

# %% tags=["hide-input"]
centres = sorted(plan["centres"])
centres = [k for k in centres if len(share("centres", f"{k} centres"))]
scored = {
    "right": "object, right",
    "of two": "object, of two",
    "inverted": "object, inverted",
    "another's": "object, another's",
}
bars = {"half": "half of the passes", "scores": "all passes"}
with ju.figure_style():
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    for j, (when, label) in enumerate(bars.items()):
        values = [share("main", "I-JEPA", s, when) for s in scored.values()]
        places = np.arange(4) + 0.38 * (j - 0.5)
        left.bar(
            places,
            [v.mean() for v in values],
            0.36,
            yerr=[v.std() for v in values],
            label=label,
            hatch=("//", "")[j],
        )
    left.axhline(0.5, color="gray", linewidth=0.8, linestyle=":")
    left.set(xticks=range(4), xticklabels=scored, ylabel="share of scenes")
    left.legend(fontsize=9)
    for when, marker in zip(bars, "s^"):
        curve = [share("centres", f"{k} centres", when=when) for k in centres]
        right.errorbar(
            centres,
            [v.mean() for v in curve],
            yerr=[v.std() for v in curve],
            marker=marker,
            capsize=3,
            label=f"K centres, {bars[when]}",
        )
    whole = share("main", "I-JEPA").mean()
    right.axhline(whole, color="black", linestyle="--", label="the tokens")
    right.set(xscale="log", xlabel="K, size of the visual vocabulary")
    right.set(ylabel="share right", ylim=(0, None))
    right.legend(fontsize=9)
ju.show_figure(
    fig,
    caption=(
        "Left: answers from the frozen eye's tokens, means of the seeds with "
        "one standard deviation; the dotted line is what guessing between two "
        "gives. Right: share of right answers from tokens that were replaced "
        "by the nearest of K centres, and from the tokens themselves."
    ),
    alt=(
        "Nearly always the right one of two objects is preferred, and hardly "
        "ever when the question is inverted; the share right among all answers "
        "rises with the passes. It rises with the size of the vocabulary, too, "
        "and stays below the line of the tokens themselves."
    ),
)

# %% [markdown]
# The same in numbers, beside two more rows: the eye as it was drawn, and *causal* attention. A language model that writes lets each token see those before it alone, and answers from the last word; the notes draw a predictor with bidirectional attention. Both have the same parameters and saw the same scenes as often. A token takes 16 bits for each of its numbers, a visual word the logarithm of $K$.

# %%
rows = {"tokens": ("main", "I-JEPA"), "eye as drawn": ("main", "as drawn")}
rows |= {"causal attention": ("attention", "causal")}
rows |= {f"{k} centres": ("centres", f"{k} centres") for k in centres}
table = {
    name: {label: share(*row, s).mean() for label, s in scored.items()}
    | {"right, half": share(*row, when="half").mean()}
    for name, row in rows.items()
}
bits = {f"{k} centres": 64 * math.log2(k) for k in centres}
table = pd.DataFrame(table).T.round(3)
table["bits per image"] = [int(bits.get(k, 64 * 96 * 16)) for k in rows]
table

# %% [markdown]
# The claims. First, that the relation is read; the control asks for the other side:

# %%
this_eye = ("main", "I-JEPA")
ju.record(
    "vl-answers-relation",
    share(*this_eye, "object, of two"),
    control=share(*this_eye, "object, inverted"),
)
longer = ("relation", "bidirectional")
ju.record(
    "vl-answers",
    share(*longer, "object, right"),
    control=share(*longer, "object, another's"),
)

# %% [markdown]
# The longer training behind the second one was also asked for the relation itself: "where is the red circle from the blue square", and the answer is "left". Here both names matter and so does their order. Inverted, the two names change places:

# %%
ju.record(
    "vl-answers-where",
    share(*longer, "relation, of two"),
    control=share(*longer, "relation, inverted"),
)

# %% [markdown]
# Then the vocabulary, the smallest and the largest of the four, and attention, each against its rival at half and at all of the passes. The control is the rival itself with another seed.

# %% tags=["hide-input"]
def spent(part, row):
    runs = [run for run in answered["runs"] if run["part"] == part]
    runs = [run for run in runs if run["row"] == row]
    names = ("steps", "samples", "seconds")
    return tuple(np.mean([run[name] for run in runs]) for name in names)


def lead(claim, ours, other):
    """Record how far one row leads another."""
    rival = share(*other)
    ju.record(
        claim,
        share(*ours) - rival,
        half=share(*ours, when="half") - share(*other, when="half"),
        control=np.roll(rival, 1) - rival,
        budget={row: spent(part, row) for part, row in (ours, other)},
    )


coarsest, finest = (
    ("centres", f"{centres[place]} centres") for place in (0, -1)
)
lead("vl-vocabulary-loses", finest, this_eye)
lead("vl-vocabulary-size", finest, coarsest)
lead("vl-attention", this_eye, ("attention", "causal"))
ju.glue("vl-answers-scenes", plan["gallery"], rtol=0)
ju.glue("vl-answers-choices", len(choices), rtol=0)
ju.glue("vl-answers-learned", spent(*longer)[1], rtol=0)
ju.glue("vl-answers-inverted", share(*this_eye, "object, inverted").mean())
ju.glue("vl-few-centres", share(*coarsest).mean())
ju.glue("vl-many-centres", share(*finest).mean())
ju.glue("vl-few-kinds", centres[0], rtol=0)
ju.glue("vl-many-kinds", centres[-1], rtol=0)
per_word = math.log2(centres[-1])
ju.glue("vl-vocabulary-bits", 16 * 96 / per_word, rtol=0)
ju.glue("vl-all-tokens", share(*this_eye).mean())
ju.glue("vl-where-inverted", share(*longer, "relation, inverted").mean())

# %% [markdown]
# The relation is read. With the right question the right one of two objects is preferred in {glue:text}`vl-answers-relation:.1%` of the scenes, and with the question inverted in {glue:text}`vl-answers-inverted:.1%`: the answer follows the side that is asked for. What keeps the share right among all {glue:text}`vl-answers-choices:.0f` answers lower is the name of the object, whose shape is eight pixels wide. Asked where one object is from another one, after {glue:text}`vl-answers-learned:,.0f` questions of both kinds, the predictor prefers the right side in {glue:text}`vl-answers-where:.1%`, and with the names exchanged the same side in {glue:text}`vl-where-inverted:.1%`.
#
# A visual vocabulary of {glue:text}`vl-few-kinds:.0f` centres answers {glue:text}`vl-few-centres:.1%` of the questions, one of {glue:text}`vl-many-kinds:,.0f` answers {glue:text}`vl-many-centres:.1%`, the tokens themselves {glue:text}`vl-all-tokens:.1%`. Untouched, an image takes {glue:text}`vl-vocabulary-bits:.0f` times as many bits as with the largest of these vocabularies.
#
# Side by side: the notes' model learns to fill in an image, and a caption is at most a hint; the paper's learns to answer in the space of texts, and an image and a question are what it answers from. Only the second one gives an embedding that can be searched with. They share the frozen eye, InfoNCE, and the name.
