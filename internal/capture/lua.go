package capture

import _ "embed"

// Lua is the Wireshark dissector for what PcapngWriter writes.
//
//go:embed imsg.lua
var Lua string
