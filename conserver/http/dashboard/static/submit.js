// Lets visitors drop files, and shows the progress of sending. Without this file the form works, too.

const form = document.querySelector("[data-drop]");

function told(text) {
  const place = form.querySelector(".told");
  place.textContent = text;
  place.hidden = !text;
}

function send() {
  const bar = form.querySelector("progress"), button = form.querySelector("button");
  const files = [...form.querySelector("[type=file]").files];
  const size = files.reduce((sum, file) => sum + file.size, 0);
  if (size > Number(form.dataset.most)) return told("These are too large together; send fewer at once.");
  told("");
  bar.hidden = false;
  button.disabled = true;
  const request = new XMLHttpRequest();
  const failed = (text) => {
    bar.hidden = true;
    button.disabled = false;
    told(text);
  };
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) bar.value = event.loaded / event.total;
  });
  request.addEventListener("load", () => {
    if (request.status < 400) return location.assign(new URL(JSON.parse(request.responseText).to, form.action));
    const page = new DOMParser().parseFromString(request.responseText, "text/html");
    failed(page.querySelector("main p")?.textContent || `The server answered ${request.status}.`);
  });
  request.addEventListener("error", () => failed("The connection broke; nothing may have arrived."));
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.send(new FormData(form));
}

if (form) {
  for (const hint of form.querySelectorAll(".scripted")) hint.hidden = false;
  for (const name of ["dragover", "dragenter"]) {
    form.addEventListener(name, (event) => {
      event.preventDefault();
      form.classList.add("over");
    });
  }
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    form.querySelector("[type=file]").files = event.dataTransfer.files;
    send();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send();
  });
}
