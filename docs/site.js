// Code and tables that scroll sideways can be reached, and then scrolled, with the keyboard.
const reach = () =>
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((region) => {
    region.tabIndex = 0
  })

new MutationObserver(reach).observe(document.body, { childList: true, subtree: true }) // the theme wraps tables late
reach()
