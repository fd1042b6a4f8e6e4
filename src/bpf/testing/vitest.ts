/** `import 'trapline/testing/vitest'` adds the matchers to vitest's `expect`, with their types. */
import { expect } from 'vitest';
import { type BpfMatchers, bpfMatchers } from './matchers.ts';

declare module 'vitest' {
  // biome-ignore lint/suspicious/noExplicitAny: as vitest declares it
  interface Matchers<T = any> extends BpfMatchers<T> {}
}

expect.extend(bpfMatchers);

export * from './index.ts';
