// Moves the player to a frame that is clicked on the timeline, and shows on the timeline where the player is. Loaded once, with the page.
() => {
  const player = () => document.querySelector("#player video");
  const lines = () => document.querySelectorAll("#timeline .timeline");

  document.addEventListener("click", (event) => {
    const video = player();
    const mark = event.target.closest?.("#timeline [data-seconds]");
    const strip = event.target.closest?.("#timeline .strip");
    if (!video || !(mark || strip)) return;
    event.preventDefault();
    if (mark) {
      video.currentTime = Number(mark.dataset.seconds);
    } else {
      const box = strip.getBoundingClientRect();
      video.currentTime = ((event.clientX - box.left) / box.width) * Number(strip.closest(".timeline").dataset.length);
    }
    video.pause();
  });

  // Media events do not bubble, but they can be captured.
  for (const name of ["timeupdate", "seeked"]) {
    document.addEventListener(name, (event) => {
      if (event.target !== player()) return;
      for (const line of lines()) {
        line.style.setProperty("--playhead", `${Math.min(100, (100 * event.target.currentTime) / Number(line.dataset.length))}%`);
      }
    }, true);
  }

  // The message is above the question: out of sight on a narrow screen, where Ask is further down.
  let told = null;
  const tell = () => {
    const message = document.querySelector("#message p");
    if (message && message !== told) message.scrollIntoView({ block: "nearest" });
    told = message;
  };

  // Gradio leaves these without a name for screen readers.
  const name = () => {
    document.querySelectorAll("#player input[type=file]").forEach((one) => one.setAttribute("aria-label", "Video file"));
    document.querySelectorAll("#player video").forEach((one) => one.setAttribute("aria-label", "The video"));
    document.querySelectorAll("#player input[type=range]").forEach((one) => one.setAttribute("aria-label", "Position in the video"));
  };
  new MutationObserver(() => (name(), tell())).observe(document.body, { childList: true, subtree: true });
  name();
}
