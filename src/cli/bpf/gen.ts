import { generateSkeleton, linkObjects } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { emit, readBytes, writeFile } from './files.ts';
import { readInput } from './input.ts';
import type { BpfArguments } from './options.ts';

/** `trapline bpf gen` */
export async function genCommand(args: BpfArguments): Promise<number> {
  const [first, ...files] = args.positionals;
  if (first === 'object') return link(args, files);
  return skeleton(args, first === 'skeleton' ? args.without(1) : args);
}

/** `gen [skeleton] FILE.o` */
function skeleton(args: BpfArguments, rest: BpfArguments): number {
  const input = readInput(args, rest.file('object'));
  if (input.kind !== 'object') {
    throw new TraplineError('EINPUT', `${input.file} is not an object file`, {
      hint: 'clang -target bpf -g -O2 -c makes one',
    });
  }
  const importFrom = args.text('import-from');
  const text = generateSkeleton(input.object, {
    contents: input.bytes,
    ...(importFrom === undefined ? {} : { importFrom }),
  });
  emit(args.text('output'), text);
  return 0;
}

/** `gen object OUT.o IN.o...` */
function link(args: BpfArguments, [output, ...inputs]: readonly string[]): number {
  for (const option of ['output', 'import-from']) {
    if (args.has(option)) {
      throw new TraplineError('EUSAGE', `gen object has no option --${option}`, {
        hint: 'trapline bpf gen object OUT.o IN.o...',
      });
    }
  }
  if (output === undefined || inputs.length === 0) {
    throw new TraplineError('EUSAGE', `no ${output === undefined ? 'output file' : 'object to link'}`, {
      hint: 'trapline bpf gen object OUT.o IN.o...',
    });
  }
  writeFile(output, linkObjects(inputs.map((name) => ({ name, bytes: readBytes(name, 'object') }))));
  return 0;
}
