import { execute, runInput } from './execute.ts';
import { emit, hexDump, hexString, writeFile } from './files.ts';
import { readInput } from './input.ts';
import { loadInput } from './load.ts';
import type { BpfArguments } from './options.ts';

/** What a program type calls its return values. */
const VERDICTS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  xdp: { 0: 'XDP_ABORTED', 1: 'XDP_DROP', 2: 'XDP_PASS', 3: 'XDP_TX', 4: 'XDP_REDIRECT' },
  sched_cls: tcVerdicts(),
  sched_act: tcVerdicts(),
};

function tcVerdicts(): Record<number, string> {
  return {
    4294967295: 'TC_ACT_UNSPEC',
    0: 'TC_ACT_OK',
    1: 'TC_ACT_RECLASSIFY',
    2: 'TC_ACT_SHOT',
    3: 'TC_ACT_PIPE',
    7: 'TC_ACT_REDIRECT',
  };
}

/** `trapline bpf run` */
export async function runCommand(args: BpfArguments): Promise<number> {
  const loaded = loadInput(args, readInput(args));
  const { retval, duration, dataOut, ctxOut } = execute(loaded, runInput(args, loaded));
  if (args.json) {
    const line = {
      retval,
      duration,
      ...(dataOut === undefined ? {} : { data_out: hexString(dataOut) }),
      ...(ctxOut === undefined ? {} : { ctx_out: hexString(ctxOut) }),
    };
    emit(undefined, `${JSON.stringify(line)}\n`);
  } else {
    const verdict = VERDICTS[loaded.program.type]?.[retval];
    emit(
      undefined,
      `Return value: ${retval}${verdict === undefined ? '' : ` (${verdict})`}, duration (average): ${duration}ns\n`,
    );
  }
  output(args, 'data-out', 'Data', dataOut);
  output(args, 'ctx-out', 'Context', ctxOut);
  return 0;
}

function output(
  args: BpfArguments,
  option: string,
  title: string,
  bytes: Uint8Array = new Uint8Array(0),
): void {
  const file = args.text(option);
  if (file === undefined) return;
  if (file === '-') emit(undefined, `${title} output:\n${hexDump(bytes)}`);
  else writeFile(file, bytes);
}
