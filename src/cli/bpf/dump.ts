import {
  createMachine,
  type Insn,
  type LoadedProgram,
  type ObjectSpec,
  type ProgramSpec,
} from '../../bpf/index.ts';
import { emit } from './files.ts';
import { type BpfInput, readInput, wantedPrograms } from './input.ts';
import { type ListingOptions, listInsns, listingText } from './listing.ts';
import { loadInput, loadOne, setGlobals } from './load.ts';
import { type BpfArguments, DUMP_STAGES } from './options.ts';
import { printWat } from './wat.ts';

type Stage = (typeof DUMP_STAGES)[number];

/** `trapline bpf dump` */
export async function dumpCommand(args: BpfArguments): Promise<number> {
  const stage = args.choice('stage', DUMP_STAGES, 'xlated');
  const input = readInput(args);
  const text = input.kind === 'object' ? dumpObject(args, input, stage) : dumpInsns(args, input, stage);
  emit(args.text('output'), text);
  return 0;
}

function dumpInsns(args: BpfArguments, input: BpfInput & { kind: 'insns' }, stage: Stage): string {
  if (stage === 'insns') return list(args, 'prog', input.insns, {});
  return dumpLoaded(args, loadInput(args, input).program, undefined, stage);
}

function dumpObject(args: BpfArguments, { object }: BpfInput & { kind: 'object' }, stage: Stage): string {
  const names = wantedPrograms(args, object);
  setGlobals(args, object);
  let text = '';
  for (const name of names) {
    const spec = object.spec.programs.get(name)!;
    if (names.length > 1 && !args.json) text += `${text === '' ? '' : '\n'}# ${name} (${spec.section})\n`;
    if (stage === 'insns')
      text += list(args, name, spec.insns, { ...known(spec), mapName: nameIn(object.spec) });
    else {
      const loaded = loadOne(args, object, name, createMachine());
      text += dumpLoaded(args, loaded.programs.get(name)!, spec, stage);
    }
  }
  return text;
}

const known = ({ functions, lineInfo }: ProgramSpec): ListingOptions => ({ functions, lines: lineInfo });

const nameIn = (spec: ObjectSpec) => (index: number) => [...spec.maps.keys()][index];

function dumpLoaded(
  args: BpfArguments,
  program: LoadedProgram,
  spec: ProgramSpec | undefined,
  stage: 'xlated' | 'wat',
): string {
  if (stage === 'wat') {
    const wat = printWat(program.wasm!);
    return args.json ? `${JSON.stringify({ program: program.name, wat })}\n` : wat;
  }
  const mapName = (index: number) => {
    const map = program.maps[index];
    return map === undefined ? undefined : `id:${map.id}`;
  };
  return list(args, program.name, program.verified.insns, {
    ...(spec === undefined ? {} : known(spec)),
    mapName,
  });
}

function list(args: BpfArguments, program: string, insns: readonly Insn[], options: ListingOptions): string {
  if (!args.json) return listingText(insns, options);
  let text = '';
  for (const { pc, text: insn, func, line } of listInsns(insns, options)) {
    text += `${JSON.stringify({
      program,
      pc,
      insn,
      ...(func === undefined ? {} : { func }),
      ...(line === undefined ? {} : { file: line.file, line: line.line, source: line.source }),
    })}\n`;
  }
  return text;
}
