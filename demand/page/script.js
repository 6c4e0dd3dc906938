() => {
  // On a phone the answer is below the form, out of sight.
  window.showAnswer = () => {
    const answer = document.getElementById('answer');
    if (answer && answer.getBoundingClientRect().top > window.innerHeight * 0.6)
      answer.scrollIntoView({behavior: matchMedia('(prefers-reduced-motion: reduce)').matches
        ? 'auto' : 'smooth', block: 'start'});
  };
  // A screen reader must know which language it reads, and hear of answers when they come.
  const attend = () => {
    const spoken = document.querySelector('#intro [lang]');
    if (spoken && document.documentElement.lang !== spoken.lang) {
      document.documentElement.lang = spoken.lang;
      document.title = spoken.querySelector('h1').textContent;
    }
    for (const set of document.querySelectorAll('fieldset')) {
      const name = set.querySelector('[data-testid="block-info"]')?.textContent.trim();
      if (name && set.getAttribute('aria-label') !== name) set.setAttribute('aria-label', name);
    }
    const price = document.querySelector('#field-price input');
    if (price && price.inputMode !== 'decimal') price.inputMode = 'decimal';
    const answer = document.getElementById('answer');
    if (answer && !answer.hasAttribute('aria-live')) answer.setAttribute('aria-live', 'polite');
  };
  attend();
  new MutationObserver(attend).observe(document.body, {childList: true, subtree: true,
    characterData: true});
}
