// Tabs by the WAI-ARIA pattern: one stop of Tab, arrows inside.

/** Connects the tabs of a list; `choose` is called with the tab, by default its panel is shown. Returns what marks a tab. */
export function connectTabs(list, choose = (tab) => showPanel(list, tab)) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const mark = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
    }
  };
  const select = (tab) => { mark(tab); choose(tab); };
  list.addEventListener("click", (event) => tabs.includes(event.target) && select(event.target));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const shown = tabs.filter((tab) => tab.checkVisibility());
    const next = shown[(shown.indexOf(event.target) + step + shown.length) % shown.length];
    select(next);
    next.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  return mark;
}

function showPanel(list, chosen) {
  for (const tab of list.querySelectorAll("[role=tab]")) document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
}
