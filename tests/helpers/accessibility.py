"""Rules of accessibility, checked in the page itself: what can be computed of WCAG without a library."""

# Each rule is a function body of JavaScript that returns the offenders as texts.
NAMES = """
const named = e => (e.getAttribute('aria-label') || e.textContent || '').trim()
  || (e.getAttribute('aria-labelledby') || '').split(/\\s+/).some(id => document.getElementById(id));
return [...document.querySelectorAll('a[href], summary, button, input, [tabindex="0"], [role=img], nav, section, main')]
  .filter(e => !named(e) || (e.matches('[role=group]') && !e.getAttribute('aria-label'))).map(e => e.outerHTML.slice(0, 90));
"""
REFERENCES = """
return ['aria-labelledby', 'aria-describedby', 'aria-controls'].flatMap(key => [...document.querySelectorAll(`[${key}]`)]
  .filter(e => e.getAttribute(key).split(/\\s+/).some(id => !document.getElementById(id))).map(e => e.outerHTML.slice(0, 90)));
"""
IDS = """
const seen = new Set(), twice = [];
for (const e of document.querySelectorAll('[id]')) (seen.has(e.id) ? twice.push(e.id) : seen.add(e.id));
return twice;
"""
HEADINGS = """
const levels = [...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map(e => [Number(e.tagName[1]), e.textContent.trim()]);
const wrong = levels.filter(([level, text], i) => !text || (i ? level > levels[i - 1][0] + 1 : level !== 1));
return [...wrong.map(String), ...(levels.filter(([level]) => level === 1).length === 1 ? [] : ['not one h1'])];
"""
LANDMARKS = """
const wrong = ['header', 'main', 'footer'].filter(name => document.querySelectorAll(name).length !== 1);
const name = e => e.tagName + (e.getAttribute('aria-label') || '') + (e.getAttribute('aria-labelledby') || '');
const marks = [...document.querySelectorAll('nav, section, [role=region]')].map(name);
const texts = [...document.querySelectorAll('section')].map(e => (e.getAttribute('aria-labelledby') || '').split(/\\s+/)
  .map(id => document.getElementById(id)?.textContent || '').join(' '));
if (new Set(marks).size !== marks.length || new Set(texts).size !== texts.length) wrong.push('two landmarks of one name');
return wrong;
"""
IMAGES = """
return [...document.querySelectorAll('svg, img')].filter(e => e.getAttribute('aria-hidden') !== 'true').filter(e => {
  const title = e.querySelector('title'), desc = e.querySelector('desc');
  return e.getAttribute('role') !== 'img' || !title || !title.textContent.trim() || !desc || desc.textContent.length < 20;
}).map(e => e.outerHTML.slice(0, 90));
"""
TABLES = """
return [...document.querySelectorAll('table')].filter(table => {
  const heads = [...table.querySelectorAll('thead th')];
  const rows = [...table.querySelectorAll('tbody tr')];
  return !heads.length || heads.some(e => e.scope !== 'col' || !e.textContent.trim())
    || rows.some(row => !row.cells.length || row.cells[0].tagName !== 'TH' || row.cells[0].scope !== 'row'
      || row.cells.length !== heads.length);
}).map(table => table.outerHTML.slice(0, 200));
"""
SCROLLERS = """
return [...document.querySelectorAll('main *')].filter(e => {
  const style = getComputedStyle(e);
  const scrolls = ['auto', 'scroll'].includes(style.overflowX) && e.scrollWidth > e.clientWidth + 1;
  return scrolls && e.tabIndex < 0;
}).map(e => e.outerHTML.slice(0, 90));
"""
TABULATED = """
return [...document.querySelectorAll('figure')].filter(e => !e.querySelector('figcaption') || !e.querySelector('details table')
  || !e.querySelector('details a[download]')).map(e => e.id);
"""
ORDER = """
return [...document.querySelectorAll('[tabindex]')].filter(e => e.tabIndex > 0).map(e => e.outerHTML.slice(0, 90));
"""
# Text against what lies behind it: 4.5, or 3 for large text (WCAG 1.4.3); pictures of pixels hold no text.
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const cache = new Map();
const parts = text => {
  if (!cache.has(text)) {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    cache.set(text, [r, g, b, a / 255]);
  }
  return cache.get(text);
};
const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3]));
const light = part => part.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = e => {
  const layers = [];
  for (let p = e; p; p = p.parentElement) layers.push(parts(getComputedStyle(p).backgroundColor));
  return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
};
const wrong = [];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || ['STYLE', 'SCRIPT', 'title', 'desc'].includes(e.tagName) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e), drawn = e.namespaceURI.endsWith('svg');
  const paper = behind(drawn ? e.closest('figure') || e.parentElement : e);
  const ink = over(parts(drawn ? style.fill : style.color), paper);
  const [high, low] = [light(ink), light(paper)].sort((a, b) => b - a);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = (high + 0.05) / (low + 0.05);
  if (ratio < (large ? 3 : 4.5)) wrong.push(`${ratio.toFixed(2)} ${e.outerHTML.slice(0, 110)}`);
}
return wrong;
"""
RULES = {
    "every control, picture and landmark has a name": NAMES,
    "every reference leads somewhere": REFERENCES,
    "every id is used once": IDS,
    "headings are in order": HEADINGS,
    "landmarks are there and differ": LANDMARKS,
    "pictures have title and description": IMAGES,
    "tables have headers, and rows as many cells": TABLES,
    "what scrolls takes the keyboard": SCROLLERS,
    "a figure has a caption, a table and a file": TABULATED,
    "the order of the keyboard is that of the page": ORDER,
    "text stands out": CONTRAST,
}
