package dhcp

// Parse reads a packet, for the fuzz test.
var Parse = parse
