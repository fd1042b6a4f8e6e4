import { fileFilter, isLineTarget } from '../arch/v8/match.ts';
import type { HeldProcess } from '../target/launch.ts';
import { findFiles } from '../target/launch-files.ts';
import type { ArmOptions } from '../target/session.ts';
import type { ScriptText } from './pipeline.ts';

/** Files with the functions that a script names; undefined where sites in files cannot be all that it needs. */
export function filesToPrepare(
  { needsSymbols, targets }: ScriptText,
  held: HeldProcess,
  arm: ArmOptions['way'] = 'auto',
): readonly string[] | undefined {
  if (!needsSymbols) return [];
  if ((arm !== 'auto' && arm !== 'nop') || targets.some(isLineTarget)) return undefined;
  const { main, runsTypes } = held;
  // what others make of TypeScript is not known before: what is found under the same name would be another file
  const isTypes = !runsTypes && main !== undefined && /\.[cm]?ts$/.test(main);
  if (isTypes && targets.some((target) => fileFilter(target)(main))) return undefined;
  const files = new Set<string>();
  for (const target of targets) {
    const found = findFiles(held, fileFilter(target));
    if (found.length === 0) return undefined;
    for (const file of found) files.add(file);
  }
  return [...files];
}
