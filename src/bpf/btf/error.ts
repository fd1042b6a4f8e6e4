import { BpfError, ERRNO, type ErrnoName } from '../errors.ts';
import { KIND_NAMES } from './kinds.ts';

/**
 * BTF or .BTF.ext that is malformed, or a question about a type that it cannot answer. `code` is EBTF; `errno` what
 * BPF_BTF_LOAD returns for it, negated; `typeId` the type at fault, where it is one type's.
 */
export class BtfError extends BpfError {
  readonly errno: number;
  readonly errnoName: ErrnoName;
  readonly typeId: number | undefined;

  constructor(
    message: string,
    options: { typeId?: number | undefined; errno?: ErrnoName; hint?: string } = {},
  ) {
    super('EBTF', message, { hint: options.hint });
    this.name = 'BtfError';
    this.errnoName = options.errno ?? 'EINVAL';
    this.errno = ERRNO[this.errnoName];
    this.typeId = options.typeId;
  }
}

/** `type [4] STRUCT foo`: how messages name a type. */
export function typeLabel(id: number, kind: number, name: string): string {
  return `type [${id}] ${KIND_NAMES[kind] ?? `kind ${kind}`} ${name === '' ? '(anon)' : name}`;
}
