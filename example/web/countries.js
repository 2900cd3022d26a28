// Countries, with their names in the browser's language, calling codes and example numbers.

export class Countries {
  constructor(countries) {
    this.countries = countries; // {GB: {code: 44, example: "07400 123456"}}
    const languages = [...navigator.languages];
    try {
      this.names = new Intl.DisplayNames(languages, { type: 'region' });
      this.collator = new Intl.Collator(languages);
    } catch {
      this.names = { of: (region) => region };
      this.collator = new Intl.Collator();
    }
  }

  fill(select) {
    const named = Object.keys(this.countries).map((region) => ({ region, name: this.names.of(region) }));
    named.sort((a, b) => this.collator.compare(a.name, b.name));
    for (const { region, name } of named) {
      select.append(new Option(`${name} (+${this.countries[region].code})`, region));
    }
    select.lang = this.collator.resolvedOptions().locale;
    select.value = this.likely();
  }

  // likely guesses the country from the browser's languages; "fr" without a region means France.
  likely() {
    for (const language of navigator.languages) {
      try {
        const { region } = new Intl.Locale(language).maximize();
        if (region in this.countries) return region;
      } catch { /* try the next language */ }
    }
    return 'GB' in this.countries ? 'GB' : Object.keys(this.countries)[0];
  }

  prefix(region) { return `+${this.countries[region].code}`; }

  example(region) { return this.countries[region].example ?? ''; }

  // spaced inserts a space after a number's calling code. No calling code is a prefix of another.
  spaced(msisdn) {
    const codes = new Set(Object.values(this.countries).map((c) => String(c.code)));
    for (const length of [1, 2, 3]) {
      const code = msisdn.slice(0, length);
      if (codes.has(code)) return `+${code} ${msisdn.slice(length)}`;
    }
    return `+${msisdn}`;
  }
}
