import type { SameKeys } from "../shape";
import type en from "./prejoin.en";

const zh: SameKeys<typeof en> = {};

export default zh;
