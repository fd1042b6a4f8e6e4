/** What a program array of a traced process holds for the program with this index: not 0, which is none. */
export const programId = (index: number): number => index + 1;
