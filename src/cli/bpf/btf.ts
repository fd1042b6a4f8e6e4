import { dumpC, dumpRaw } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { emit } from './files.ts';
import { readBtf } from './load.ts';
import type { BpfArguments } from './options.ts';

const USAGE = 'trapline bpf btf dump FILE [format raw|c]';

/** `trapline bpf btf dump [file] FILE [format raw|c]`; bpftool's word `file` may stand before the name. */
export async function btfCommand(args: BpfArguments): Promise<number> {
  const [verb, ...rest] = args.positionals;
  if (verb !== 'dump') {
    throw new TraplineError('EUSAGE', verb === undefined ? 'nothing to do' : `btf cannot ${verb}`, {
      hint: USAGE,
    });
  }
  if (rest[0] === 'file' && rest.length > 1) rest.shift();
  const [file, word, format = 'raw', extra] = rest;
  if (file === undefined) throw new TraplineError('EUSAGE', 'no file', { hint: USAGE });
  if ((word !== undefined && (word !== 'format' || rest.length < 3)) || extra !== undefined) {
    throw new TraplineError('EUSAGE', `what is ${rest.slice(1).join(' ')}?`, { hint: USAGE });
  }
  if (format !== 'raw' && format !== 'c') {
    throw new TraplineError('EUSAGE', `format ${format} is not one of raw, c`);
  }
  const base = args.text('base');
  const btf = readBtf(file, base === undefined ? undefined : readBtf(base));
  const output = args.text('output');
  if (format === 'c') {
    emit(output, dumpC(btf));
    return 0;
  }
  emit(output, [...dumpRaw(btf)].join(''));
  return 0;
}
