// Light or dark: as the system says, until the person says otherwise.

const KEY = "upnext.theme";

const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

function remembered() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // a browser that keeps nothing still shows the page
  }
}

function show(theme) {
  document.documentElement.style.colorScheme = theme;
  const name = `Switch to ${theme === "dark" ? "light" : "dark"} colours`;
  button.setAttribute("aria-label", name);
  button.title = name;
  button.dataset.theme = theme;
}

export function setUpTheme() {
  const wanted = () => remembered() ?? (system.matches ? "dark" : "light");
  show(wanted());
  system.addEventListener("change", () => show(wanted()));
  button.addEventListener("click", () => {
    const next = button.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // Then it holds until the page is left.
    }
    show(next);
  });
}
