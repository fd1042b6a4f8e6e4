/**
 * A vitest reporter that counts: what passed, what failed, and what was skipped with the reason the test gave
 * (`ctx.skip(reason)`, `unless(reason)` of `test/support/skip.ts`). `scripts/test.mjs` prints its summary last.
 */
export default class CountingReporter {
  passed = 0;
  failed = 0;
  /** reason → names */
  skipped = new Map();
  failures = [];

  onTestRunEnd(modules, unhandledErrors) {
    for (const module of modules) {
      const file = module.relativeModuleId ?? module.moduleId;
      let inFile = 0;
      for (const test of module.children.allTests()) {
        inFile++;
        const result = test.result();
        if (result.state === 'passed') this.passed++;
        else if (result.state === 'skipped')
          this.#skip(result.note ?? test.meta().reason ?? this.#modeOf(test), `${file} > ${test.fullName}`);
        else this.#fail(`${file} > ${test.fullName}`);
      }
      // A file that cannot be loaded, or a suite whose hook failed, has no failed test of its own.
      const errors = module.errors();
      if (errors.length > 0) this.#fail(`${file}: ${errors[0].message}`);
      else if (inFile === 0) this.#fail(`${file}: no tests`);
      for (const suite of module.children.allSuites()) {
        const suiteErrors = suite.errors();
        if (suiteErrors.length > 0) this.#fail(`${file} > ${suite.fullName}: ${suiteErrors[0].message}`);
      }
    }
    for (const error of unhandledErrors) this.#fail(`unhandled: ${error.message ?? String(error)}`);
  }

  #modeOf(test) {
    return test.options.mode === 'todo' ? 'todo' : 'no reason given';
  }

  #skip(reason, name) {
    const names = this.skipped.get(reason) ?? [];
    names.push(name);
    this.skipped.set(reason, names);
  }

  #fail(name) {
    this.failed++;
    this.failures.push(name);
  }
}
