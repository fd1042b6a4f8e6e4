/**
 * What is not probed, as kernel/kprobes.c keeps a blacklist: code that a probe's own handling runs, where a hit would
 * come from inside a hit.
 */
import { fileURLToPath } from 'node:url';

interface BlacklistEntry {
  readonly matches: (file: string) => boolean;
  readonly reason: string;
}

/** Trapline's own folder, `dist/` or `src/`, two above this file; this file alone where it is part of a bundle. */
const OWN = ownPath();

function ownPath(): string {
  const url: string | undefined = import.meta.url;
  if (url === undefined || !url.startsWith('file:')) return 'trapline:';
  const path = fileURLToPath(url);
  return /[/\\]arch[/\\]v8[/\\]blacklist\.[jt]s$/.test(path)
    ? path.replace(/arch.v8.blacklist\.[jt]s$/, '')
    : path;
}

const ENTRIES: readonly BlacklistEntry[] = [
  {
    matches: (file) => file.startsWith('trapline:') || file.startsWith(OWN) || isInstalledTrapline(file),
    reason: "it is Trapline's own code, which handles the probes",
  },
  {
    matches: (file) => file.startsWith('node:internal/') || file.startsWith('internal/'),
    reason: "it is internal to Node, and Trapline's agent stands on it",
  },
  {
    matches: (file) => file.startsWith('node:') || file.startsWith('electron/'),
    reason: "it is Node's own module, which Trapline's agent may call while it handles a probe",
  },
  {
    matches: (file) => file.startsWith('extensions::') || file.startsWith('v8/'),
    reason: 'it is part of V8',
  },
  {
    matches: (file) => file.startsWith('wasm://'),
    reason: 'it is WebAssembly, which has no JavaScript functions',
  },
];

function isInstalledTrapline(file: string): boolean {
  return /(^|[/\\])node_modules[/\\]trapline[/\\](dist|src)[/\\]/.test(file);
}

/** Why no function of a script (its url or path) can be probed; undefined where they can. */
export function blacklistReason(file: string): string | undefined {
  return ENTRIES.find((entry) => entry.matches(file))?.reason;
}
