import { generateSkeleton } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { emit } from './files.ts';
import { readInput } from './input.ts';
import type { BpfArguments } from './options.ts';

/** `trapline bpf gen` */
export async function genCommand(args: BpfArguments): Promise<number> {
  const input = readInput(args, args.file('object'));
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
