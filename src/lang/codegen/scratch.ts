/** Where a function of a program gets the scratch memory from. */
import { R0, R1, R2 } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import { SCRATCH_REG } from './frame.ts';
import type { Gen } from './gen.ts';

/** Puts its address into SCRATCH_REG; goes to the label where there is none, which does not happen. */
export function loadScratch(gen: Gen, none: string): void {
  const { b } = gen;
  const place = gen.frame.alloc(8);
  b.st(4, place.reg, place.off, 0);
  b.ldMap(R1, gen.module.scratch(8));
  gen.addr(R2, place);
  b.call(isa.BPF_FUNC_map_lookup_elem).jcond('==', R0, 0, none).mov(SCRATCH_REG, R0);
  gen.frame.free(place, 8);
}
