"""The frame and the style sheet of a report's page."""

__all__ = ["FRAME", "STYLE"]

FRAME = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}: evaluation</title>
<style>
{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """\
:root { font: 400 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
*, *::before, *::after { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); -webkit-text-size-adjust: 100%; }
main { max-width: 62rem; margin: 0 auto; padding: clamp(1.5rem, 5vw, 4rem) clamp(1rem, 4vw, 2.5rem); }
h1, h2, h3, p, dl, dd, figure { margin: 0; }
h1 { font-size: clamp(1.9rem, 5vw, 2.6rem); line-height: 1.15; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; letter-spacing: -0.01em; line-height: 1.3; }
h3 { margin-top: 2rem; font-size: 1rem; overflow-wrap: anywhere; }
section { margin-top: 3.5rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
b { font-weight: 650; }
.eyebrow, .note, figcaption, thead th, .facts dt { color: var(--soft); font-size: 0.875rem; }
.summary { margin: 1rem 0; max-width: 44rem; font-size: clamp(1.1rem, 2.6vw, 1.3rem); text-wrap: pretty; }
.facts { display: flex; flex-wrap: wrap; gap: 1rem 2.75rem; margin-top: 1.75rem; }
.facts dd { font-size: 1.3rem; font-variant-numeric: tabular-nums; line-height: 1.3; }
.wide { margin-top: 0.5rem; overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.6rem 0 0.6rem 1.25rem; text-align: right; vertical-align: top; }
th { font-weight: 400; }
th:first-child { min-width: 8.5rem; overflow-wrap: anywhere; }
th:first-child { position: sticky; left: 0; padding-left: 0; background: var(--ground); text-align: left; }
td, thead th { white-space: nowrap; }
td b { color: var(--accent); }
td small { display: block; color: var(--soft); font-size: 0.75rem; line-height: 1.3; }
tbody tr { border-top: 1px solid var(--line); }
tbody .oracle { border-top: 2px solid var(--soft); color: var(--soft); }
.plots { display: grid; gap: 1.5rem 3rem; margin-top: 1rem; }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); }
.plots figure { min-width: 0; }
.plots svg { display: block; width: 100%; max-width: 34rem; margin-top: 0.5rem; overflow: visible; }
h3 + .plots { margin-top: 0.25rem; }
svg text { font-family: inherit !important; font-variant-numeric: tabular-nums; }
.terms { margin-top: 0.75rem; }
.terms > div { display: grid; grid-template-columns: 18rem 1fr; gap: 0 1.5rem; padding: 0.6rem 0; }
.terms > div + div { border-top: 1px solid var(--line); }
.terms dt { display: flex; gap: 0.6rem; align-items: baseline; color: var(--soft); }
.level { display: inline-block; min-width: 4.5rem; flex: none; padding: 0 0.5rem; border-radius: 0.35rem; }
.level { background: var(--wash); color: var(--ink); font-size: 0.8125rem; text-align: center; }
.level.ok { background: var(--ok-wash); color: var(--ok); }
.level.warning { background: var(--warning-wash); color: var(--warning); }
details { margin-top: 0.75rem; }
summary { cursor: pointer; color: var(--soft); }
pre { margin: 0.5rem 0 0; padding: 1rem; overflow-x: auto; border-radius: 0.5rem; background: var(--wash); }
pre, code { font: 0.8125rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
nav { margin-top: 1.75rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.4rem 1.4rem; margin: 0; padding: 0; list-style: none; }
a { color: var(--accent); text-underline-offset: 0.2em; }
.compact td, .compact th { padding-top: 0.3rem; padding-bottom: 0.3rem; }
.spread { margin: 0.75rem 0 0; padding-left: 1.2rem; }
.spread + .note, details + .note { margin-top: 1rem; }
.example { margin-top: 2.25rem; }
.example h3 { margin: 0; }
.example ol, .example ul { margin: 0.25rem 0 0; padding-left: 1.4rem; }
.example li { overflow-wrap: anywhere; }
.example li.hit { color: var(--accent); font-weight: 650; }
.lists { display: grid; gap: 1rem 2rem; margin-top: 0.75rem; }
.lists { grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
.lists h4, .chosen h4 { margin: 0; color: var(--soft); font-size: 0.875rem; font-weight: 400; }
.chosen { margin-top: 0.75rem; padding: 0.75rem 1rem; border-radius: 0.5rem; background: var(--wash); }
.chosen p { overflow-wrap: anywhere; }
@media (max-width: 40rem) {
  .terms > div { grid-template-columns: 1fr; gap: 0.15rem; }
  th, td { padding-left: 0.9rem; }
}
@media print {
  main { max-width: none; padding: 0; }
  nav, details { display: none; }
  .wide { overflow: visible; }
  h2, h3 { break-after: avoid; }
  figure, tr, .terms > div, .example { break-inside: avoid; }
}
"""
