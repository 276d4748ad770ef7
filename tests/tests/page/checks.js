// Returns what is wrong with the page, as sentences.
function () {
  const faults = [];
  const name = (of) => `${of.tagName.toLowerCase()} "${of.textContent.trim().slice(0, 40)}"`;
  const isScrolled = (of) => of.closest('.scroll, pre') !== null;
  const width = document.documentElement.clientWidth;

  // Nothing is wider than the screen but what scrolls by itself.
  if (document.documentElement.scrollWidth > width) {
    faults.push(`the page is ${document.documentElement.scrollWidth} wide on ${width}`);
  }
  for (const of of document.body.querySelectorAll('*')) {
    const { left, right } = of.getBoundingClientRect();
    if (!isScrolled(of) && (right > width + 1 || left < -1)) {
      faults.push(`${name(of)} reaches from ${left} to ${right} on ${width}`);
    }
  }
  for (const of of document.querySelectorAll('.scroll')) {
    if (of.scrollWidth > of.clientWidth && of.tabIndex !== 0) {
      faults.push(`${name(of)} scrolls, and no key reaches it`);
    }
  }

  // WCAG 2.1, 1.4.3: the contrast of text is at least 4.5 to 1.
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const luminance = (color) => {
    const linear = (value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    };
    const [red, green, blue] = channels(color).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const background = (of) => {
    for (let at = of; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      const alpha = channels(color)[3];
      if (alpha === undefined || alpha === 1) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const of = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim()) continue;
    const style = getComputedStyle(of);
    const [one, other] = [luminance(style.color), luminance(background(of))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) faults.push(`${name(of)} has a contrast of ${contrast.toFixed(2)}`);
    if (parseFloat(style.fontSize) < 12) faults.push(`${name(of)} is ${style.fontSize} high`);
  }

  // A link of the page leads to a place in it, and headings have an order.
  for (const of of document.querySelectorAll('a')) {
    const target = of.getAttribute('href');
    if (!target.startsWith('#') || !document.getElementById(target.slice(1))) {
      faults.push(`${name(of)} leads to ${target}`);
    }
  }
  let last = 0;
  for (const of of document.querySelectorAll('h1, h2, h3, h4')) {
    const level = Number(of.tagName[1]);
    if (level > last + 1) faults.push(`${name(of)} follows a heading of level ${last}`);
    last = level;
  }
  const ids = [...document.querySelectorAll('[id]')].map((of) => of.id);
  for (const id of ids) {
    if (ids.filter((other) => other === id).length > 1) faults.push(`id ${id} is used twice`);
  }
  for (const of of document.querySelectorAll('[aria-labelledby]')) {
    if (!ids.includes(of.getAttribute('aria-labelledby'))) faults.push(`${name(of)} has no label`);
  }
  const landmarks = [...document.querySelectorAll('section, [role=region]')];
  const labels = landmarks.map((of) => of.getAttribute('aria-labelledby'));
  for (const label of labels) {
    if (labels.filter((other) => other === label).length > 1) {
      faults.push(`two landmarks are labelled by ${label}`);
    }
  }
  for (const of of document.querySelectorAll('th')) {
    if (!of.scope) faults.push(`${name(of)} has no scope`);
  }
  // Severities are told in words, not by colors alone.
  for (const of of document.querySelectorAll('.severity')) {
    if (!of.textContent.trim()) faults.push('a severity has no text');
  }
  return faults;
}
