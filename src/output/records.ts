import type { CompiledScript, ScriptType } from '../lang/script.ts';
import type { Value } from './model.ts';
import { compilePrintf, type RecordFormatter } from './printf.ts';
import { strftime } from './strftime.ts';
import { type DecodeContext, readValue } from './values.ts';

/** What a ring record says. */
export type RecordEvent =
  | { readonly kind: 'printf' | 'time'; readonly text: string }
  /** A command for the tracer's shell. */
  | { readonly kind: 'system'; readonly text: string }
  | { readonly kind: 'value'; readonly value: Value }
  /** Requests to the tracer, about a map of the script. */
  | { readonly kind: 'print_map'; readonly map: number; readonly top: number; readonly div: number }
  | { readonly kind: 'clear' | 'zero'; readonly map: number }
  | { readonly kind: 'exit'; readonly code: number }
  /** A run-time error at one of the script's positions. */
  | { readonly kind: 'error'; readonly position: number; readonly message: string }
  /** An action number that the script does not have. */
  | { readonly kind: 'unknown'; readonly action: number };

/** Turns ring records into events; made once a script. */
export class RecordDecoder {
  readonly #script: CompiledScript;
  readonly #context: DecodeContext;
  readonly #formats: readonly (RecordFormatter | undefined)[];
  /** Where an action's records hold numbers of stacks; undefined where no action's do. */
  readonly #stacks: readonly (readonly number[])[] | undefined;

  constructor(script: CompiledScript, context: DecodeContext) {
    this.#script = script;
    this.#context = context;
    this.#formats = script.actions.map((action) =>
      action.kind === 'printf' || action.kind === 'system'
        ? compilePrintf(action.format, action.args, context)
        : undefined,
    );
    const stacks = script.actions.map((action) =>
      'args' in action ? action.args.flatMap(({ offset, type }) => stackOffsets(type, offset)) : [],
    );
    if (stacks.some((offsets) => offsets.length > 0)) this.#stacks = stacks;
  }

  /** Whether a record tells of stacks whose frames the context does not know (yet). */
  lacksFrames(record: DataView): boolean {
    if (this.#stacks === undefined) return false;
    const offsets = this.#stacks[record.getUint32(0, true)] ?? [];
    return offsets.some((offset) => {
      const id = record.getUint32(offset, true);
      return id !== 0 && this.#context.stack(id) === undefined;
    });
  }

  decode(record: DataView): RecordEvent {
    const index = record.getUint32(0, true);
    const action = this.#script.actions[index];
    const format = this.#formats[index];
    if (format !== undefined)
      return { kind: action?.kind === 'system' ? 'system' : 'printf', text: format(record) };
    switch (action?.kind) {
      case 'print': {
        const values = action.args.map(({ offset, type }) => readValue(record, offset, type, this.#context));
        return { kind: 'value', value: values.length === 1 ? values[0]! : { kind: 'tuple', fields: values } };
      }
      case 'print_map':
        return {
          kind: 'print_map',
          map: action.map,
          top: record.getUint32(8, true),
          div: record.getUint32(12, true),
        };
      case 'clear':
      case 'zero':
        return { kind: action.kind, map: action.map };
      case 'time':
        return {
          kind: 'time',
          text: strftime(action.format, this.#context.realtimeNs(record.getBigUint64(8, true))),
        };
      case 'exit':
        return { kind: 'exit', code: Number(BigInt.asIntN(32, record.getBigInt64(8, true))) };
      case 'error':
        return {
          kind: 'error',
          position: action.position,
          message: action.message ?? 'a check failed at run time',
        };
      default:
        return { kind: 'unknown', action: index };
    }
  }
}

function stackOffsets(type: ScriptType, offset: number): number[] {
  if (type.kind === 'stack') return [offset];
  if (type.kind !== 'tuple') return [];
  return type.fields.flatMap((field) => stackOffsets(field.type, offset + field.offset));
}
