// Paper is light whatever the screen is; a drawer closes when it has done its work.
(() => {
  const root = document.documentElement;
  let theme = null;
  const toPaper = () => {
    if (theme === null) theme = root.dataset.theme;
    root.dataset.theme = "light";
  };
  const toScreen = () => {
    if (theme !== null) root.dataset.theme = theme;
    theme = null;
  };
  window.addEventListener("beforeprint", toPaper);
  window.addEventListener("afterprint", toScreen);

  // On a phone the contents are a dialog. An entry of the page that one is on opens no new page.
  document.addEventListener("click", (event) => {
    const entry = event.target.closest("dialog[open][id$=sidebar-modal] a[href]");
    if (entry) entry.closest("dialog").close();
  });
})();
