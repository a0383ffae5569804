"use strict";
(() => {
  const key = "act2see-review-" + document.body.dataset.name;
  const articles = [...document.querySelectorAll("article")];
  const verdicts = Object.create(null); // no prototype: any name may be a trace's
  try {
    Object.assign(verdicts, JSON.parse(localStorage.getItem(key)));
  } catch (error) {
    // a browser that keeps nothing for files: what is decided is then in this page alone
  }
  const keep = () => {
    try {
      localStorage.setItem(key, JSON.stringify(verdicts));
    } catch (error) {
      document.getElementById("unkept").hidden = false;
    }
    const decided = articles.filter((article) => (verdicts[article.dataset.trace] || {}).verdict);
    document.getElementById("count").textContent = decided.length + " of " + articles.length;
    document.getElementById("save").disabled = decided.length === 0;
  };
  const show = (article) => {
    const given = verdicts[article.dataset.trace] || {};
    article.dataset.verdict = given.verdict || "";
    for (const button of article.querySelectorAll("button[data-verdict]")) {
      button.setAttribute("aria-pressed", String(button.dataset.verdict === given.verdict));
    }
    article.querySelector("input").value = given.note || "";
  };
  const set = (article, change) => {
    verdicts[article.dataset.trace] = { ...verdicts[article.dataset.trace], ...change };
    show(article);
    keep();
  };
  for (const article of articles) {
    show(article);
    for (const button of article.querySelectorAll("button[data-verdict]")) {
      button.addEventListener("click", () => set(article, { verdict: button.dataset.verdict }));
    }
    article.querySelector("input").addEventListener("input", (event) => {
      verdicts[article.dataset.trace] = { ...verdicts[article.dataset.trace], note: event.target.value };
      keep();
    });
  }
  const current = () => articles.find((article) => article.getBoundingClientRect().bottom > 160) || articles[articles.length - 1];
  document.addEventListener("keydown", (event) => {
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey || !articles.length) return;
    const article = current();
    const next = (step) => {
      const other = articles[articles.indexOf(article) + step];
      if (other) other.scrollIntoView();
    };
    if (event.key === "k") set(article, { verdict: "keep" });
    else if (event.key === "r") set(article, { verdict: "reject" });
    else if (event.key === "n") next(1);
    else if (event.key === "p") next(-1);
  });
  document.getElementById("save").addEventListener("click", () => {
    const lines = articles
      .filter((article) => (verdicts[article.dataset.trace] || {}).verdict)
      .map((article) => {
        const given = verdicts[article.dataset.trace];
        return JSON.stringify({ trace: article.dataset.trace, verdict: given.verdict, note: given.note || "" }) + "\n";
      });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
    link.download = "verdicts.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  keep();
})();
