/** What later instructions need of a state's registers and slots (mark_reg_read, mark_stack_slot_read of kernel/bpf/verifier.c). */
import type { VerifierState } from './state.ts';

/**
 * mark_reg_read: the value that `state` has in a register is needed, so every earlier state down to the one that wrote it needs it.
 */
export function markRegRead(state: VerifierState, frameno: number, regno: number): void {
  const bit = 1 << regno;
  let at = frameno;
  let current = state;
  for (let parent = state.parent; parent !== undefined; parent = current.parent) {
    if ((current.frames[at]!.writtenRegs & bit) !== 0) return;
    // A function that was entered since: its arguments are its caller's registers.
    while (parent.frames[at] === undefined) {
      if (regno === 0 || regno > 5 || at === 0) return;
      at--;
    }
    const frame = parent.frames[at]!;
    if ((frame.readRegs & bit) !== 0) return;
    frame.readRegs |= bit;
    current = parent;
  }
}

/** The same for a stack slot. */
export function markSlotRead(state: VerifierState, frameno: number, spi: number): void {
  let current = state;
  for (let parent = state.parent; parent !== undefined; parent = current.parent) {
    if (current.frames[frameno]!.writtenSlots.has(spi)) return;
    const frame = parent.frames[frameno];
    if (frame === undefined || frame.readSlots.has(spi)) return;
    frame.readSlots.add(spi);
    current = parent;
  }
}
