/** BTF, func_info and line_info of BPF_PROG_LOAD, from the caller's records (check_btf_info of kernel/bpf/verifier.c). */
import type { Btf } from '../btf/btf.ts';
import { ERRNO } from '../errors.ts';
import type { MachineState } from '../machine/machine.ts';
import type { FuncInfo, LineInfo } from '../verifier/types.ts';
import type { ProgLoadAttr } from './attrs.ts';
import { btfOf } from './objects.ts';

/** struct bpf_func_info, struct bpf_line_info */
const FUNC_INFO_SIZE = 8;
const LINE_INFO_SIZE = 16;
const MAX_RECORD_SIZE = 252;

export interface DebugInfo {
  readonly btf?: Btf;
  readonly funcInfo?: readonly FuncInfo[];
  readonly lineInfo?: readonly LineInfo[];
}

/** Why a program is refused before the verifier looks at it. */
export class Refused {
  /** Positive. */
  readonly errno: number;
  readonly message: string;

  constructor(errno: number, message: string) {
    this.errno = errno;
    this.message = message;
  }
}

export function debugInfo(machine: MachineState, attr: ProgLoadAttr): DebugInfo | Refused {
  const { progBtfFd, funcInfo, funcInfoRecSize = FUNC_INFO_SIZE, lineInfo } = attr;
  const { lineInfoRecSize = LINE_INFO_SIZE } = attr;
  const hasRecords = (funcInfo?.length ?? 0) > 0 || (lineInfo?.length ?? 0) > 0;
  if (!hasRecords) return {};
  const btf = btfOf(machine, progBtfFd ?? 0);
  if (typeof btf === 'number') return new Refused(-btf, `fd ${progBtfFd ?? 0} is no BTF`);
  const funcs = records(funcInfo, funcInfoRecSize, FUNC_INFO_SIZE);
  if (funcs === undefined) return new Refused(ERRNO.EINVAL, `invalid func info rec size ${funcInfoRecSize}`);
  if (funcs === 'tail') return new Refused(ERRNO.E2BIG, 'nonzero tailing record in func info');
  const lines = records(lineInfo, lineInfoRecSize, LINE_INFO_SIZE);
  if (lines === undefined) return new Refused(ERRNO.EINVAL, `invalid line info rec size ${lineInfoRecSize}`);
  if (lines === 'tail') return new Refused(ERRNO.E2BIG, 'nonzero tailing record in line_info');
  return {
    btf,
    funcInfo: funcs.map((at) => ({ insn: at.getUint32(0, true), typeId: at.getUint32(4, true) })),
    lineInfo: lines.map((at) => line(btf, at)),
  };
}

/** BPF_LINE_INFO_LINE_NUM */
const LINE_SHIFT = 10;

function line(btf: Btf, at: DataView): LineInfo {
  const name = (offset: number): string | undefined =>
    offset < btf.stringsEnd ? btf.string(offset) : undefined;
  const file = name(at.getUint32(4, true));
  const source = name(at.getUint32(8, true));
  return {
    insn: at.getUint32(0, true),
    file: file ?? '',
    line: at.getUint32(12, true) >>> LINE_SHIFT,
    source: source ?? '',
    ...(file === undefined || source === undefined ? { unnamed: true } : {}),
  };
}

/** Whole records; undefined where their size is none that may be, 'tail' where there is something behind what is known of one. */
function records(
  bytes: Uint8Array | undefined,
  size: number,
  known: number,
): DataView[] | 'tail' | undefined {
  if (bytes === undefined || bytes.length === 0) return [];
  if (size < known || size > MAX_RECORD_SIZE || size % 4 !== 0 || bytes.length % size !== 0) return undefined;
  const list: DataView[] = [];
  for (let at = 0; at < bytes.length; at += size) {
    if (bytes.subarray(at + known, at + size).some((byte) => byte !== 0)) return 'tail';
    list.push(new DataView(bytes.buffer, bytes.byteOffset + at, known));
  }
  return list;
}
