package bgpd

import (
	"fmt"
	"reflect"
)

// Types of messages that are the same in all versions, as in bgpd.h.
const (
	msgEnd          = 1
	msgResult       = 12
	msgShowNeighbor = 13
	msgShowRIB      = 16
	msgShowPrefix   = 17
)

// Types that moved by one when flowspec came, in 8.0; before, they are one less.
const (
	msgShowMemory = 22
	msgShowTables = 26
	msgShowSet    = 27
)

// typeNames are those of 8.7 and later. They are the same up to SOCKET_CONN_RTR
// since 8.0.
var typeNames = [...]string{
	"NONE", "CTL_END", "CTL_RELOAD", "CTL_FIB_COUPLE", "CTL_FIB_DECOUPLE", "CTL_NEIGHBOR_UP", "CTL_NEIGHBOR_DOWN",
	"CTL_NEIGHBOR_CLEAR", "CTL_NEIGHBOR_RREFRESH", "CTL_NEIGHBOR_DESTROY", "CTL_KROUTE", "CTL_KROUTE_ADDR", "CTL_RESULT",
	"CTL_SHOW_NEIGHBOR", "CTL_SHOW_NEXTHOP", "CTL_SHOW_INTERFACE", "CTL_SHOW_RIB", "CTL_SHOW_RIB_PREFIX",
	"CTL_SHOW_RIB_COMMUNITIES", "CTL_SHOW_RIB_ATTR", "CTL_SHOW_NETWORK", "CTL_SHOW_FLOWSPEC", "CTL_SHOW_RIB_MEM", "CTL_SHOW_TERSE",
	"CTL_SHOW_TIMER", "CTL_LOG_VERBOSE", "CTL_SHOW_FIB_TABLES", "CTL_SHOW_SET", "CTL_SHOW_RTR", "CTL_TERMINATE", "NETWORK_ADD",
	"NETWORK_ASPATH", "NETWORK_ATTR", "NETWORK_REMOVE", "NETWORK_FLUSH", "NETWORK_DONE", "FLOWSPEC_ADD", "FLOWSPEC_DONE",
	"FLOWSPEC_REMOVE", "FLOWSPEC_FLUSH", "FILTER_SET", "SOCKET_CONN", "SOCKET_CONN_CTL", "SOCKET_CONN_RTR", "SOCKET_SETUP",
	"SOCKET_TEARDOWN", "RECONF_CONF", "RECONF_RIB", "RECONF_PEER", "RECONF_PEER_AUTH", "RECONF_FILTER", "RECONF_LISTENER",
	"RECONF_CTRL", "RECONF_VPN", "RECONF_VPN_EXPORT", "RECONF_VPN_IMPORT", "RECONF_VPN_DONE", "RECONF_PREFIX_SET",
	"RECONF_PREFIX_SET_ITEM", "RECONF_AS_SET", "RECONF_AS_SET_ITEMS", "RECONF_AS_SET_DONE", "RECONF_ORIGIN_SET", "RECONF_ROA_SET",
	"RECONF_ROA_ITEM", "RECONF_ASPA", "RECONF_ASPA_TAS", "RECONF_ASPA_DONE", "RECONF_ASPA_PREP", "RECONF_RTR_CONFIG",
	"RECONF_DRAIN", "RECONF_DONE", "UPDATE", "UPDATE_ERR", "SESSION_ADD", "SESSION_UP", "SESSION_DOWN", "SESSION_DELETE",
	"SESSION_STALE", "SESSION_NOGRACE", "SESSION_FLUSH", "SESSION_RESTARTED", "SESSION_DEPENDON", "PFKEY_RELOAD", "MRT_OPEN",
	"MRT_REOPEN", "MRT_CLOSE", "KROUTE_CHANGE", "KROUTE_DELETE", "KROUTE_FLUSH", "NEXTHOP_ADD", "NEXTHOP_REMOVE", "NEXTHOP_UPDATE",
	"PFTABLE_ADD", "PFTABLE_REMOVE", "PFTABLE_COMMIT", "REFRESH", "DEMOTE", "XON", "XOFF",
}

// typeFlowspec is the first type that 7.9 and earlier do not have.
const typeFlowspec = 21

// TypeName returns the name of a message's type in OpenBGPD 8.7 and later,
// without IMSG_, for example "CTL_SHOW_RIB", or "" if the type is unknown. In 8.0
// to 8.6, those of the control socket are the same, and some between the daemon's
// processes are not.
func TypeName(typ uint32) string {
	if typ < uint32(len(typeNames)) {
		return typeNames[typ]
	}
	return ""
}

// TypeNameLegacy is TypeName for OpenBGPD 7.6 to 7.9, and "" for types that
// differ between these.
func TypeNameLegacy(typ uint32) string {
	switch { // how many types have come since
	case typ > 56:
		return ""
	case typ >= 42: // RECONF_FILTER
		typ += 8
	case typ >= 39: // RECONF_CONF
		typ += 7
	case typ >= 35: // FILTER_SET
		typ += 5
	case typ >= typeFlowspec:
		typ++
	}
	return TypeName(typ)
}

// PayloadType returns the struct type, for package payload, of a payload of size
// bytes, or nil if it has none or the size is unknown. Types are those of 8.0 and
// later. A route is followed by its AS path and only known by version, so that it
// has none.
func PayloadType(typ uint32, size int) reflect.Type {
	switch typ {
	case msgShowNeighbor:
		return neighborDecoder.PayloadType(size)
	case msgShowMemory:
		return memoryDecoder.PayloadType(size)
	case msgShowTables:
		return tableDecoder.PayloadType(size)
	case msgShowSet:
		return setDecoders[0].PayloadType(size)
	}
	return nil
}

// A ResultError is what the daemon says instead of an answer.
type ResultError struct{ Code uint32 }

var results = [...]string{
	"success", "no such neighbor", "permission denied", "neighbor lacks capability", "parse error", "reload in progress",
	"out of memory", "bad neighbor", "neighbor is in the wrong state", "no such RIB", "operation not supported",
}

// Error returns for example "no such neighbor".
func (e *ResultError) Error() string {
	if e.Code < uint32(len(results)) {
		return results[e.Code]
	}
	return fmt.Sprintf("result %d", e.Code)
}

// Results that a request may have.
const (
	ResultNoSuchNeighbor = 1
	ResultDenied         = 2
	ResultNoSuchRIB      = 9
)
