/** Price of a list of items, with the discount of whole dozens. */
export function total(items) {
  let sum = 0;
  for (const { price, quantity } of items) sum += price * quantity * (quantity >= 12 ? 0.9 : 1);
  return Math.round(sum * 100) / 100;
}
