/**
 * The part of a probe event's program that stands in front of its record: it counts the hists that need nothing but the event's
 * values, and leaves where no filter would let the record pass (../hit-plan.ts). What it cannot tell it leaves to whoever gets the
 * record: a predicate that it cannot answer lets pass, a hist that it cannot count makes its records wanted.
 */
import { type ProgramBuilder, R0, R1, R2, R3, R4, R10, type Reg } from '../../../bpf/builder.ts';
import * as isa from '../../../bpf/isa.ts';
import { emitComparison, emitSteps } from '../filter/compile.ts';
import type { FilterPredicate, FilterStep } from '../filter/predicate.ts';
import type { CountedHist, CountedKey, FieldSource } from '../hit-plan.ts';
import { INLINE_KFUNCS } from '../js-kfuncs.ts';
import type { TraceField } from '../trace-field.ts';

/** A value that a program can load. */
export interface LoadedValue {
  readonly isString: boolean;
  /** It is in a register: loading it again costs no more than keeping it. */
  readonly isCheap?: boolean;
  /** Into R1; a string to `base` + `offset`: its s64 length with the NUL, or -errno, and its zero-filled bytes. */
  readonly emit: (base?: Reg, offset?: number) => void;
}

/** A hist, and where the program counts it. */
export interface StagedHist {
  readonly hist: CountedHist;
  /** Index of a hash map: keys as keyBytes() says, values u64 hits, then a u64 each sum. */
  readonly map: number;
  /** Offsets of u64 counters: hits, those that found no room among them; and those alone. */
  readonly hits: number;
  readonly drops: number;
}

export interface HitStageOptions {
  /** Undefined: all records are wanted. */
  readonly wanted: readonly (readonly FilterStep[])[] | undefined;
  readonly hists: readonly StagedHist[];
  /** Index of an array map with one value: u64 counters. */
  readonly counters: number;
  /** Offset of the counter of hits that made no record. */
  readonly unsent: number;
  readonly field: (field: TraceField) => FieldSource | undefined;
  readonly decide: (predicate: FilterPredicate) => boolean | undefined;
}

export interface StageValues {
  /** Bytes of a string, its NUL among them. */
  readonly maxString: number;
  readonly argument: (index: number) => LoadedValue | undefined;
}

/** Of the 512 that a program has. */
const STACK_BYTES = 480;
const BPF_NOEXIST = 1;

/** Bytes of a hist's key in its map; undefined where strings may be longer than the hist keeps them. */
export function keyBytes(keys: readonly CountedKey[], maxString: number): number | undefined {
  let bytes = 0;
  for (const { as, size } of keys) {
    if (as === 'string' && maxString > size) return undefined;
    bytes += as === 'string' ? maxString : 8;
  }
  return bytes;
}

/** A key of the map as the hist has it. */
export function histKey(keys: readonly CountedKey[], maxString: number, bytes: Uint8Array): Uint8Array {
  const last = keys.at(-1);
  const key = new Uint8Array(last === undefined ? 0 : last.offset + last.size);
  let at = 0;
  for (const { as, offset } of keys) {
    const length = as === 'string' ? maxString : 8;
    key.set(bytes.subarray(at, at + length), offset);
    at += length;
  }
  return key;
}

/** Offsets from R10 of a hist's key, and of the value of a new entry. */
interface Room {
  readonly key: number;
  readonly value: number;
}

/** Where a field's value is. */
type Operand = { readonly constant: bigint } | { readonly at: number; readonly isString: boolean };

export class HitStage {
  readonly counted = new Set<StagedHist>();
  readonly #b: ProgramBuilder;
  readonly #options: HitStageOptions;
  readonly #values: StageValues;
  /** Offsets from R10 of values. */
  readonly #stack = new Map<LoadedValue, number>();
  #depth = 0;

  constructor(b: ProgramBuilder, options: HitStageOptions, values: StageValues) {
    this.#b = b;
    this.#options = options;
    this.#values = values;
  }

  /** Offset from R10 of a value that was loaded; undefined of others. */
  stackOf(value: LoadedValue): number | undefined {
    return this.#stack.get(value);
  }

  /** Goes on behind it where a record is to be made; leaves the program where not. False: there is none to be made ever. */
  emit(): boolean {
    const b = this.#b;
    const { hists, counters, unsent } = this.#options;
    const rooms = new Map<StagedHist, Room>();
    for (const hist of hists) {
      const room = this.#plan(hist);
      if (room === undefined) continue;
      rooms.set(hist, room);
      this.counted.add(hist);
    }
    const wanted = this.#wanted();
    for (const steps of wanted ?? []) this.#need(steps);
    for (const [value, at] of this.#stack) {
      value.emit(R10, at);
      if (!value.isString) b.stx(8, R10, at, R1);
    }
    for (const [n, [hist, room]] of [...rooms].entries()) this.#count(hist, room, `hist${n}.`);
    if (wanted === undefined) return true;
    for (const [n, steps] of wanted.entries()) {
      this.#filter(steps, `wanted${n}.`, 'stage.send', `stage.next${n}`);
      b.label(`stage.next${n}`);
    }
    this.#increment(counters, unsent);
    b.mov(R0, 0).exit();
    if (wanted.length === 0) return false;
    b.label('stage.send');
    return true;
  }

  /** Filters of those who want records, hists that are not counted here among them. */
  #wanted(): readonly (readonly FilterStep[])[] | undefined {
    const { wanted, hists } = this.#options;
    const left = hists.filter((hist) => !this.counted.has(hist)).map(({ hist: { filter } }) => filter);
    if (wanted === undefined || left.includes(undefined)) return undefined;
    return [...wanted, ...(left as (readonly FilterStep[])[])];
  }

  /** Room on the stack; undefined where there is none. */
  #room(bytes: number): number | undefined {
    if (this.#depth + bytes > STACK_BYTES) return undefined;
    this.#depth += bytes;
    return -this.#depth;
  }

  #operand(field: TraceField): Operand | undefined {
    const source = this.#options.field(field);
    if (source === undefined || 'constant' in source) return source;
    const value = this.#values.argument(source.arg);
    if (value === undefined) return undefined;
    const at = this.#stack.get(value) ?? this.#room(value.isString ? 8 + this.#values.maxString : 8);
    if (at === undefined) return undefined;
    this.#stack.set(value, at);
    return { at, isString: value.isString };
  }

  /** A field's value where it is loaded when it is compared, and not before. */
  #cheap(field: TraceField): LoadedValue | undefined {
    const source = this.#options.field(field);
    if (source === undefined || 'constant' in source) return undefined;
    const value = this.#values.argument(source.arg);
    return value?.isCheap === true && !this.#stack.has(value) ? value : undefined;
  }

  #number(field: TraceField): Operand | undefined {
    const operand = this.#operand(field);
    return operand !== undefined && 'at' in operand && operand.isString ? undefined : operand;
  }

  #string(field: TraceField): number | undefined {
    const operand = this.#operand(field);
    return operand !== undefined && 'at' in operand && operand.isString ? operand.at : undefined;
  }

  /** Makes room for what a filter compares; false where it compares something that is not to be had. */
  #need(steps: readonly FilterStep[]): boolean {
    let all = true;
    for (const { predicate } of steps) if (!this.#needs(predicate)) all = false;
    return all;
  }

  #needs(predicate: FilterPredicate): boolean {
    if (this.#options.decide(predicate) !== undefined) return true;
    switch (predicate.kind) {
      case 'number':
      case 'function':
        return this.#cheap(predicate.field) !== undefined || this.#number(predicate.field) !== undefined;
      case 'string':
        if (predicate.regex.plain !== undefined) this.#string(predicate.field);
        // A string that faults is the record's business.
        return false;
      default:
        return false;
    }
  }

  /** Undefined where the hist cannot be counted here, and then nothing was taken of the stack. */
  #plan({ hist: { filter, keys, values } }: StagedHist): Room | undefined {
    const depth = this.#depth;
    const known = new Set(this.#stack.keys());
    const fits =
      this.#need(filter ?? []) &&
      keys.every(({ from, as }) => {
        if (from === 'cpu') return true;
        return (as === 'string' ? this.#string(from) : this.#number(from)) !== undefined;
      }) &&
      values.every((value) => typeof value === 'bigint' || this.#number(value) !== undefined);
    const bytes = keyBytes(keys, this.#values.maxString);
    const key = fits && bytes !== undefined ? this.#keyRoom(keys, bytes) : undefined;
    const value = key === undefined ? undefined : this.#room(8 + 8 * values.length);
    if (key !== undefined && value !== undefined) return { key, value };
    this.#depth = depth;
    for (const value of this.#stack.keys()) if (!known.has(value)) this.#stack.delete(value);
    return undefined;
  }

  /** One string is its own key. */
  #keyRoom(keys: readonly CountedKey[], bytes: number): number | undefined {
    const [first] = keys;
    if (keys.length === 1 && first?.as === 'string') {
      const at = this.#string(first.from as TraceField);
      return at === undefined ? undefined : at + 8;
    }
    return this.#room(bytes);
  }

  #load(operand: Operand, field: TraceField, isSigned: boolean): void {
    const b = this.#b;
    const { size } = field;
    if ('constant' in operand) {
      const bits = size * 8;
      const { constant } = operand;
      b.lddw(R1, isSigned ? BigInt.asIntN(bits, constant) : BigInt.asUintN(bits, constant));
    } else if (isSigned && size < 8) b.ldsx(size as 1 | 2 | 4, R1, R10, operand.at);
    else b.ldx(size as 1 | 2 | 4 | 8, R1, R10, operand.at);
  }

  /** Of R1, so many bytes. */
  #narrow(size: number, isSigned: boolean): void {
    const b = this.#b;
    const bits = 8 * size;
    if (bits === 64) return;
    if (isSigned) b.movsx(R1, R1, bits as 8 | 16 | 32);
    else b.lsh(R1, 64 - bits).rsh(R1, 64 - bits);
  }

  /** A field's number as hists take it. */
  #loadField(field: TraceField): void {
    this.#load(this.#number(field) as Operand, field, field.isSigned || field.size === 8);
  }

  #filter(steps: readonly FilterStep[], prefix: string, pass: string, drop: string): void {
    const b = this.#b;
    emitSteps(b, steps, {
      prefix,
      pass,
      drop,
      predicate: (predicate, _, yes, no) => {
        const answer = this.#options.decide(predicate);
        if (answer !== undefined) {
          if (answer) b.jump(yes);
          return;
        }
        switch (predicate.kind) {
          case 'number':
          case 'function': {
            const { field } = predicate;
            const isSigned = predicate.kind === 'number' && predicate.isSigned;
            const cheap = this.#cheap(field);
            const operand = cheap === undefined ? this.#number(field) : undefined;
            if (cheap !== undefined) {
              cheap.emit();
              this.#narrow(field.size, isSigned);
            } else if (operand !== undefined) this.#load(operand, field, isSigned);
            else {
              b.jump(pass);
              return;
            }
            emitComparison(b, predicate, yes, no);
            return;
          }
          case 'string': {
            const { regex, not, field } = predicate;
            const at = regex.plain === undefined ? undefined : this.#string(field);
            if (at === undefined || regex.plain === undefined) b.jump(pass);
            else
              this.#compareString(at, regex.plain, {
                pass,
                yes: not ? no : yes,
                no: not ? yes : no,
              });
            return;
          }
          default:
            b.jump(pass);
        }
      },
    });
  }

  /** The string at R10 + `at`: jumps to `yes` where it matches, to `no` where it does not, to `pass` where it could not be read. */
  #compareString(
    at: number,
    { text, whole }: { readonly text: string; readonly whole: boolean },
    { pass, yes, no }: { pass: string; yes: string; no: string },
  ): void {
    const b = this.#b;
    b.ldx(8, R1, R10, at).jcond('s<=', R1, 0, pass);
    const bytes = Array.from(whole ? `${text}\0` : text, (char) => char.charCodeAt(0));
    // What was cut does not match, and its end is a NUL.
    if (text.length >= this.#values.maxString) {
      b.jump(no);
      return;
    }
    for (let i = 0; i < bytes.length; ) {
      const left = bytes.length - i;
      const size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
      let word = 0n;
      for (let n = size - 1; n >= 0; n--) word = (word << 8n) | BigInt(bytes[i + n] as number);
      b.ldx(size, R1, R10, at + 8 + i)
        .lddw(R2, word)
        .jcond('!=', R1, R2, no);
      i += size;
    }
    b.jump(yes);
  }

  /** event_hist_trigger() */
  #count({ hist, map, hits, drops }: StagedHist, { key, value: fresh }: Room, prefix: string): void {
    const b = this.#b;
    const { filter, keys, values } = hist;
    const { counters } = this.#options;
    const labels = { in: `${prefix}in`, out: `${prefix}out`, miss: `${prefix}miss`, done: `${prefix}done` };
    if (filter !== undefined) this.#filter(filter, prefix, labels.in, labels.out);
    b.label(labels.in);
    this.#key(keys, key, prefix);
    b.ldMap(R1, map).mov(R2, R10).add(R2, key).call(isa.BPF_FUNC_map_lookup_elem);
    b.jcond('==', R0, 0, labels.miss);
    b.ldx(8, R1, R0, 0).add(R1, 1).stx(8, R0, 0, R1);
    for (const [i, value] of values.entries()) {
      this.#value(value);
      b.ldx(8, R2, R0, 8 + 8 * i)
        .add(R2, R1)
        .stx(8, R0, 8 + 8 * i, R2);
    }
    b.jump(labels.done).label(labels.miss);
    b.mov(R1, 1).stx(8, R10, fresh, R1);
    for (const [i, value] of values.entries()) {
      this.#value(value);
      b.stx(8, R10, fresh + 8 + 8 * i, R1);
    }
    b.ldMap(R1, map).mov(R2, R10).add(R2, key).mov(R3, R10).add(R3, fresh).mov(R4, BPF_NOEXIST);
    b.call(isa.BPF_FUNC_map_update_elem).jcond('==', R0, 0, labels.done);
    this.#increment(counters, drops);
    b.label(labels.done);
    this.#increment(counters, hits);
    b.label(labels.out);
  }

  #value(value: TraceField | bigint): void {
    if (typeof value === 'bigint') this.#b.lddw(R1, value);
    else this.#loadField(value);
  }

  /** The key at R10 + `key`. */
  #key(keys: readonly CountedKey[], key: number, prefix: string): void {
    const b = this.#b;
    const { maxString } = this.#values;
    let at = key;
    for (const [n, { from, as }] of keys.entries()) {
      if (as === 'string') {
        const string = (this.#string(from as TraceField) as number) + 8;
        if (string !== at)
          for (let i = 0; i < maxString; i += 8) b.ldx(8, R1, R10, string + i).stx(8, R10, at + i, R1);
        at += maxString;
        continue;
      }
      if (from === 'cpu') b.call(isa.BPF_FUNC_get_smp_processor_id).mov(R1, R0);
      else this.#loadField(from);
      if (as === 'log2') this.#log2(`${prefix}log2.${n}`);
      else if (as !== 'number') b.lddw(R2, as.multipleOf).div(R1, R2).mul(R1, R2);
      b.stx(8, R10, at, R1);
      at += 8;
    }
  }

  /** R1 becomes order_base_2(R1). */
  #log2(label: string): void {
    const b = this.#b;
    b.mov(R0, 0).jcond('<=', R1, 1, label);
    b.sub(R1, 1).kcall(INLINE_KFUNCS.clz64.id);
    b.mov(R1, 64).sub(R1, R0).mov(R0, R1);
    b.label(label).mov(R1, R0);
  }

  #increment(map: number, offset: number): void {
    this.#b.ldMapValue(R1, map, offset).ldx(8, R2, R1, 0).add(R2, 1).stx(8, R1, 0, R2);
  }
}
