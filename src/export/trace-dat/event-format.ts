/** `format` files as descriptions of events (libtraceevent's tep_parse_event()). */
import { TraceEventCall } from '../../kernel/trace/trace-event.ts';
import { filterTypeOf, type TraceField } from '../../kernel/trace/trace-field.ts';
import { badFile } from './layout.ts';

/** A field of a file's event. */
export interface FileField extends TraceField {
  readonly common: boolean;
}

/** An event as a file describes it. */
export interface FileEvent {
  readonly system: string;
  readonly name: string;
  readonly id: number;
  /** Common ones first. */
  readonly fields: readonly FileField[];
  /** For evaluating its print format. */
  readonly call: TraceEventCall;
}

const FIELD = /^\tfield:([^;]*);\s*offset:(\d+);\s*size:(\d+);(?:\s*signed:(\d+);)?/;
/** No record is longer: offsets behind it are of a broken file. */
const RECORD_MAX = 1 << 20;

/** Parses a `format` file. ETRACEDAT where it has no name or number. */
export function parseEventFormat(system: string, text: string): FileEvent {
  const name = /^name: (.*)$/m.exec(text)?.[1];
  const id = /^ID: (\d+)$/m.exec(text)?.[1];
  if (name === undefined || id === undefined) throw badFile(`a format of ${system} has no name and ID`);
  const fields: FileField[] = [];
  let common = true;
  let seen = false;
  const printAt = text.indexOf('\nprint fmt: ');
  const head = printAt < 0 ? text : text.slice(0, printAt + 1);
  for (const line of head.split('\n')) {
    const match = FIELD.exec(line);
    if (match !== null) {
      seen = true;
      fields.push(fieldOf(match, common));
    } else if (line === '' && seen) common = false;
  }
  const printFmt = printAt < 0 ? '' : text.slice(printAt + 12).replace(/\n$/, '');
  // libtraceevent reads every field as it stands in the record: a sign comes with the conversion that prints it.
  const unsigned = fields.map((field) => ({ ...field, isSigned: false }));
  const call = new TraceEventCall({ class: { system }, name, fields: unsigned, printFmt });
  call.id = Number(id);
  return { system, name, id: call.id, fields, call };
}

function fieldOf(match: RegExpExecArray, common: boolean): FileField {
  const [, declared = '', offset, size, signed] = match;
  const array = /^(.*?)\s*(\w+)\s*(\[.*\])$/.exec(declared);
  const plain = /^(.*?)\s*(\w+)$/.exec(declared);
  const name = array?.[2] ?? plain?.[2] ?? declared;
  // a dynamic array has its brackets behind the type
  const type = array === null ? (plain?.[1] ?? declared) : `${array[1]}${array[3]}`;
  const field = { offset: Number(offset), size: Number(size) };
  if (field.offset > RECORD_MAX || field.size > RECORD_MAX)
    throw badFile(`the field ${name} is at ${offset} and has ${size} bytes`);
  const filterType = name === 'comm' ? 'comm' : filterTypeOf(type);
  return { name, type, ...field, isSigned: signed === '1', filterType, common };
}
