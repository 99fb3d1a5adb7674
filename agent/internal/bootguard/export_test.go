package bootguard

var Custom = custom
