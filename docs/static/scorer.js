/* Search: where a thing is defined comes before where it is spoken of. */
var Scorer = {
  objNameMatch: 200, objPartialMatch: 6,
  objPrio: {0: 0, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
};
