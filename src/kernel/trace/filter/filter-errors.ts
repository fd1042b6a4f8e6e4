import type { ErrnoCode } from '../../errno.ts';

/** FILT_ERR_* with their texts. */
export const FILTER_ERRORS = {
  INVALID_OP: 'Invalid operator',
  TOO_MANY_OPEN: "Too many '('",
  TOO_MANY_CLOSE: "Too few '('",
  MISSING_QUOTE: 'Missing matching quote',
  MISSING_BRACE_OPEN: "Missing '{'",
  MISSING_BRACE_CLOSE: "Missing '}'",
  OPERAND_TOO_LONG: 'Operand too long',
  EXPECT_STRING: 'Expecting string field',
  EXPECT_DIGIT: 'Expecting numeric field',
  ILLEGAL_FIELD_OP: 'Illegal operation for field type',
  FIELD_NOT_FOUND: 'Field not found',
  ILLEGAL_INTVAL: 'Illegal integer value',
  BAD_SUBSYS_FILTER: "Couldn't find or set field in one of a subsystem's events",
  TOO_MANY_PREDS: 'Too many terms in predicate expression',
  INVALID_FILTER: 'Meaningless filter expression',
  INVALID_CPULIST: 'Invalid cpulist',
  IP_FIELD_ONLY: "Only 'ip' field is supported for function trace",
  INVALID_VALUE: 'Invalid value (did you forget quotes)?',
  NO_FUNCTION: 'Function not found',
  ERRNO: 'Error',
  NO_FILTER: 'No filter found',
} as const;

export type FilterErrorName = keyof typeof FILTER_ERRORS;

/**
 * A filter that cannot be parsed. Without a `reason` the kernel has none either and shows `Error: (0)`. `position` is a byte of the
 * filter as the kernel counts: one too many in most cases.
 */
export class FilterParseError extends Error {
  readonly errno: ErrnoCode;
  readonly reason: FilterErrorName | undefined;
  readonly position: number;

  constructor(errno: ErrnoCode, reason?: FilterErrorName, position = 0) {
    super(reason === undefined ? FILTER_ERRORS.ERRNO : FILTER_ERRORS[reason]);
    this.name = 'FilterParseError';
    this.errno = errno;
    this.reason = reason;
    this.position = position;
  }
}
