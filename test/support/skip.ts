/**
 * Options that skip a test or a group where it cannot run, with the reason that `npm test` prints behind the last test; none where
 * `reason` is undefined:
 *
 *     describe('maps as in the kernel', unless(kernelBpf.reason), () => …)
 */
import type { TestOptions } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    /** Why it was skipped. */
    reason?: string;
  }
}

export const unless = (reason: string | undefined): TestOptions =>
  reason === undefined ? {} : { skip: true, meta: { reason } };
