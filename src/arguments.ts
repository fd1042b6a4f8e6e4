/** Arguments of callers in JavaScript: the machine's shapes, told of as a TraplineError. */
import { argumentCheck } from './bpf/arguments.ts';
import { TraplineError } from './errors.ts';

export * from './bpf/arguments.ts';

/** Throws TraplineError EINVAL where `value` does not fit. */
export const checkArgument = argumentCheck((message, hint) => new TraplineError('EINVAL', message, { hint }));
