// Replays a folder of recordings of a real kernel (test/conformance/golden, or another in the same format) through the tracefs tree.
// The caller passes the modules of src or dist: what src/tracefs/index.ts exports.

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCases } from './cases.mjs';
import { GoldenSystem } from './system.mjs';
import { runTranscript, TRANSCRIPTS } from './transcripts.mjs';
import { VALUES } from './values.mjs';

const CASE_FILES = ['control.txt', 'kprobe_defs.txt', 'kprobe_seq.txt', 'filters.txt', 'triggers.txt'];
const CONFORMANCE = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../conformance');
const DIFFERENCES = path.join(CONFORMANCE, 'golden-differences.json');

/** Ours. */
export const RECORDINGS = path.join(CONFORMANCE, 'golden');

/** Runs everything that is in the folder. `report(name, problems, skipped)` is told of each case. */
export function runGolden(modules, folder, report, only) {
  const known = JSON.parse(readFileSync(DIFFERENCES, 'utf8'));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const perFile = {};
  const tell = (name, problems, skipped) => {
    const file = name.split(' ')[0];
    perFile[file] ??= { passed: 0, failed: 0, skipped: 0 };
    const reason = skipped ?? (problems.length > 0 ? explained(known, name, problems) : undefined);
    const key = reason !== undefined ? 'skipped' : problems.length > 0 ? 'failed' : 'passed';
    counts[key]++;
    perFile[file][key]++;
    if (reason === undefined) report(name, problems);
    else report(name, [], reason);
  };
  // Cases alone do not say which static events there are.
  const declared = [...new Set([RECORDINGS, path.resolve(folder)])];
  const createSystem = () => new GoldenSystem(modules, declared);
  const replays = [
    ...CASE_FILES.map((name) => [name, runCases]),
    ...TRANSCRIPTS.map((name) => [name, runTranscript]),
    ...Object.entries(VALUES),
  ];
  for (const [name, run] of replays) {
    const file = path.join(folder, name);
    const omit = known.differences
      .filter((entry) => entry.file === name)
      .flatMap((entry) => entry.omit ?? []);
    if (existsSync(file) && (only === undefined || only === name)) run(createSystem, file, name, tell, omit);
  }
  return { ...counts, perFile };
}

/** The reason that golden-differences.json gives for a difference: by file and a part of the problem's text. */
function explained(known, name, problems) {
  const file = name.split(' ')[0];
  const entry = known.differences.find(
    ({ file: where, contains }) =>
      where === file && contains !== undefined && problems.every((problem) => problem.includes(contains)),
  );
  return entry?.reason;
}
