-- Wireshark dissector for what imsgctl records (pcapng, LINKTYPE_WIRESHARK_UPPER_PDU):
--
--   tshark -r FILE.pcapng -X lua_script:imsg.lua -V
--   wireshark -X lua_script:imsg.lua FILE.pcapng
--
-- or put this file into Wireshark's folder of personal Lua plugins.

local imsg = Proto("imsg", "imsg(3) message")

local dirs = { [0] = "unknown", "out", "in" }
local dialects = { [0] = "either", "current", "legacy" }

local f = {
	typ = ProtoField.uint32("imsg.type", "Type"),
	len = ProtoField.uint32("imsg.len", "Length, header included"),
	id = ProtoField.uint32("imsg.id", "ID"),
	pid = ProtoField.int32("imsg.pid", "PID in the header"),
	payload = ProtoField.bytes("imsg.payload", "Payload"),
	cut = ProtoField.uint32("imsg.cut", "Bytes that were not captured"),
	marked = ProtoField.bool("imsg.marked", "The header announces a file"),
	dir = ProtoField.uint8("imsg.dir", "Direction", base.DEC, dirs),
	dialect = ProtoField.uint8("imsg.dialect", "Dialect", base.DEC, dialects),
	channel = ProtoField.uint32("imsg.channel", "Channel"),
	wait = ProtoField.int64("imsg.wait", "Waited in the socket (ns)"),
	from_pid = ProtoField.int32("imsg.from.pid", "Sender's PID"),
	from_fd = ProtoField.int32("imsg.from.fd", "Sender's descriptor"),
	from_exe = ProtoField.string("imsg.from.exe", "Sender's program"),
	to_pid = ProtoField.int32("imsg.to.pid", "Receiver's PID"),
	to_fd = ProtoField.int32("imsg.to.fd", "Receiver's descriptor"),
	to_exe = ProtoField.string("imsg.to.exe", "Receiver's program"),
	note = ProtoField.string("imsg.note", "Note"),
	file = ProtoField.string("imsg.file", "File"),
	file_from = ProtoField.int32("imsg.file.from", "Descriptor at the sender"),
	file_to = ProtoField.int32("imsg.file.to", "Descriptor at the receiver"),
	file_kind = ProtoField.string("imsg.file.kind", "Kind"),
	file_flags = ProtoField.string("imsg.file.flags", "Flags"),
	lost = ProtoField.bool("imsg.lost", "The file was lost"),
}
imsg.fields = f

local e_version = ProtoExpert.new("imsg.version", "A version that this dissector does not know", expert.group.UNDECODED, expert.severity.WARN)
local e_lost = ProtoExpert.new("imsg.filelost", "A file was lost", expert.group.SEQUENCE, expert.severity.WARN)
local e_short = ProtoExpert.new("imsg.short", "The header in front of the message is not whole", expert.group.MALFORMED, expert.severity.ERROR)
imsg.experts = { e_version, e_lost, e_short }

local function name(exe, pid)
	if exe == "" then
		return pid == 0 and "?" or "[" .. pid .. "]"
	end
	return exe:match("[^/]*$") .. "[" .. pid .. "]"
end

-- file shows one file, the value of a field; it returns how it is called.
local function file(tvb, tree)
	local from, to, lost = tvb(0, 4), tvb(4, 4), tvb(8, 1)
	local at, s = 9, {}
	for i = 1, 3 do
		local n = tvb(at, 2):uint()
		s[i] = n > 0 and tvb(at + 2, n) or nil
		at = at + 2 + n
	end
	local path = s[3] and s[3]:string() or ""
	local t = tree:add(f.file, tvb(), path)
	t:add(f.file_from, from)
	t:add(f.file_to, to)
	if s[1] then t:add(f.file_kind, s[1]) end
	if s[2] then t:add(f.file_flags, s[2]) end
	t:add(f.lost, lost)
	if lost:uint() ~= 0 then t:add_proto_expert_info(e_lost) end
	return path == "" and "file" or path
end

function imsg.dissector(tvb, pinfo, tree)
	pinfo.cols.protocol = "imsg"
	local t = tree:add(imsg, tvb())
	if tvb:len() < 40 then
		t:add_proto_expert_info(e_short)
		return
	end
	if tvb(0, 1):uint() ~= 1 then
		t:add_proto_expert_info(e_version)
		return
	end
	local flags, size = tvb(3, 1):uint(), tvb(4, 4):uint()
	if size < 40 or size + 16 > tvb:len() then
		t:add_proto_expert_info(e_short)
		return
	end
	local big = bit32 and bit32.band(flags, 2) ~= 0 or not bit32 and math.floor(flags / 2) % 2 == 1
	local marked = flags % 2 == 1
	local msg = tvb(size)
	local function add(field, range)
		if big then t:add(field, range) else t:add_le(field, range) end
		return big and range:uint() or range:le_uint()
	end
	local typ = add(f.typ, msg(0, 4))
	local len = tvb(12, 4):uint()
	t:add(f.len, msg(4, 4), len)
	add(f.id, msg(8, 4))
	add(f.pid, msg(12, 4))
	if msg:len() > 16 then t:add(f.payload, msg(16)) end
	if len > msg:len() then t:add(f.cut, msg(4, 4), len - msg:len()) end
	t:add(f.marked, tvb(3, 1), marked)
	t:add(f.dir, tvb(1, 1))
	t:add(f.dialect, tvb(2, 1))
	t:add(f.channel, tvb(8, 4))
	if tvb(16, 1):uint() < 128 then t:add(f.wait, tvb(16, 8)) end
	t:add(f.from_pid, tvb(24, 4))
	t:add(f.from_fd, tvb(28, 4))
	t:add(f.to_pid, tvb(32, 4))
	t:add(f.to_fd, tvb(36, 4))
	local from_exe, to_exe, files = "", "", {}
	local at = 40
	while at + 4 <= size do
		local kind, n = tvb(at, 1):uint(), tvb(at + 2, 2):uint()
		if at + 4 + n > size then
			t:add_proto_expert_info(e_short)
			break
		end
		local v = n > 0 and tvb(at + 4, n) or nil
		if kind == 1 and v then
			from_exe = v:string()
			t:add(f.from_exe, v)
		elseif kind == 2 and v then
			to_exe = v:string()
			t:add(f.to_exe, v)
		elseif kind == 3 and v then
			t:add(f.note, v)
		elseif kind == 4 and n >= 15 then
			files[#files + 1] = file(v:tvb(), t)
		end
		at = at + 4 + n
	end
	pinfo.cols.src = name(from_exe, tvb(24, 4):int())
	pinfo.cols.dst = name(to_exe, tvb(32, 4):int())
	local info = string.format("type %d len %d", typ, len)
	if #files > 0 then info = info .. " +" .. table.concat(files, " +") end
	pinfo.cols.info = info
end
