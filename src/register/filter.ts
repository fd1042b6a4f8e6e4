/** Which files get sites: globs that match a path's end on component boundaries, or a folder within it. */

export function pathFilter(
  include: string | undefined,
  exclude: string | undefined,
): (path: string) => boolean {
  const wanted = patterns(include);
  const unwanted = patterns(exclude);
  return (path) =>
    (wanted.length === 0 || wanted.some((p) => p.test(path))) && !unwanted.some((p) => p.test(path));
}

function patterns(list: string | undefined): RegExp[] {
  return (list ?? '')
    .split(',')
    .map((glob) => glob.trim())
    .filter((glob) => glob !== '')
    .map((glob) => {
      const source = glob
        .replace(/^\.?\//, '')
        .replace(/\/$/, '')
        .replace(/[.+^${}()|[\]\\]/g, '\\$&')
        .replace(/\*+/g, '.*')
        .replace(/\?/g, '.');
      return new RegExp(`(?:^|/)${source}(?:/|$)`);
    });
}
