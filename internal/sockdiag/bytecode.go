package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The kernel filters sockets with a small program (INET_DIAG_REQ_BYTECODE; inet_diag_bc_audit and inet_diag_bc_run in
// net/ipv4/inet_diag.c). An instruction has a code, two distances, and operands. If its test holds, the kernel goes on
// after the distance yes. That is the length of the instruction, because the verifier walks the program by it. If the
// test does not hold, the kernel goes on after the distance no, which leads forwards to another instruction. The kernel
// accepts a socket if the program arrives exactly at its end, and rejects it after a jump to four bytes past the end.
const (
	opJump        = 1 // INET_DIAG_BC_JMP: the test never holds
	opLocalGE     = 2 // INET_DIAG_BC_S_GE
	opLocalLE     = 3 // INET_DIAG_BC_S_LE
	opRemoteGE    = 4 // INET_DIAG_BC_D_GE
	opRemoteLE    = 5 // INET_DIAG_BC_D_LE
	opLocalMatch  = 7 // INET_DIAG_BC_S_COND
	opRemoteMatch = 8 // INET_DIAG_BC_D_COND

	opHeader = 4 // struct inet_diag_bc_op
	anyPort  = ^uint32(0)

	// maxBytecode is the longest program whose attribute has a length of 16 bits.
	maxBytecode = 1<<16 - 1 - 4 - attrHeader
)

// instruction is one test. Its operands do not depend on its position.
type instruction struct {
	code     byte
	negated  bool // the test must not hold
	operands []byte
}

func (i instruction) size() int {
	if i.negated {
		return 2*opHeader + len(i.operands) // followed by a jump
	}
	return opHeader + len(i.operands)
}

// alternative is a list of instructions that must all hold.
type alternative []instruction

// condition is a list of alternatives. At least one must hold.
type condition []alternative

// size returns the length of the alternatives. A jump to the end of the condition follows each of them except the last.
func (c condition) size() int {
	n := (len(c) - 1) * opHeader
	for _, a := range c {
		for _, i := range a {
			n += i.size()
		}
	}
	return n
}

// bytecode returns the program for the conditions on the two ends. It is empty if there are none.
func (q Query) bytecode() ([]byte, error) {
	var conditions []condition
	total := 0
	for _, c := range []condition{
		q.Local.portCondition(opLocalMatch, opLocalGE, opLocalLE),
		q.Remote.portCondition(opRemoteMatch, opRemoteGE, opRemoteLE),
		q.Local.prefixCondition(opLocalMatch),
		q.Remote.prefixCondition(opRemoteMatch),
	} {
		if len(c) > 0 {
			conditions = append(conditions, c)
			total += c.size()
		}
	}
	if total > maxBytecode {
		return nil, fmt.Errorf("the filter is too long: match fewer prefixes and port ranges: "+
			"it has %d bytes, the kernel accepts %d", total, maxBytecode)
	}
	code := make([]byte, 0, total)
	for _, c := range conditions {
		code = c.appendTo(code, total)
	}
	return code, nil
}

// appendTo appends the instructions of c to a program whose final length is total bytes.
func (c condition) appendTo(code []byte, total int) []byte {
	end := len(code) + c.size()
	for n, a := range c {
		isLast := n == len(c)-1
		failed := total + opHeader // past the end: reject
		if !isLast {
			failed = len(code) + condition{a}.size() + opHeader // the next alternative
		}
		for _, i := range a {
			if i.negated {
				// yes has one byte and reaches at most 255 bytes, so a jump is needed.
				next := len(code) + i.size()
				code = i.appendTo(code, next)
				code = instruction{code: opJump}.appendTo(code, failed)
				continue
			}
			code = i.appendTo(code, failed)
		}
		if !isLast {
			code = instruction{code: opJump}.appendTo(code, end)
		}
	}
	return code
}

// appendTo appends one instruction, which continues at the offset no if its test does not hold.
func (i instruction) appendTo(code []byte, no int) []byte {
	at := len(code)
	code = append(code, i.code, byte(opHeader+len(i.operands)))
	code = binary.NativeEndian.AppendUint16(code, uint16(no-at))
	return append(code, i.operands...)
}

// portCondition tests a single port with a host condition, because Linux before 5.0 has no instruction that tests
// whether ports are equal.
func (m Match) portCondition(match, ge, le byte) condition {
	var c condition
	for _, r := range m.Ports {
		first, last := r.First, r.last()
		if first == last {
			c = append(c, alternative{{code: match, operands: hostCondition(netip.Prefix{}, uint32(first))}})
			continue
		}
		c = append(c, alternative{
			{code: ge, operands: portOperand(first)},
			{code: le, operands: portOperand(last)},
		})
	}
	return c
}

func (m Match) prefixCondition(match byte) condition {
	mapped := netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)
	var c condition
	for _, p := range m.Prefixes {
		p = unmapPrefix(p)
		a := alternative{{code: match, operands: hostCondition(p, anyPort)}}
		if p.Addr().Is6() && p.Overlaps(mapped) {
			a = append(a, instruction{code: match, negated: true, operands: hostCondition(mapped, anyPort)})
		}
		c = append(c, a)
	}
	return c
}

// hostCondition encodes a struct inet_diag_hostcond. The zero Prefix means any address.
func hostCondition(p netip.Prefix, port uint32) []byte {
	b := make([]byte, 0, 24)
	switch {
	case !p.IsValid():
		b = append(b, 0, 0, 0, 0)
	case p.Addr().Is4():
		b = append(b, byte(IPv4), byte(p.Bits()), 0, 0)
	default:
		b = append(b, byte(IPv6), byte(p.Bits()), 0, 0)
	}
	b = binary.NativeEndian.AppendUint32(b, port)
	return append(b, p.Addr().AsSlice()...)
}

// portOperand encodes the port of a comparison. It stands in the field no of a second instruction header.
func portOperand(port uint16) []byte {
	return binary.NativeEndian.AppendUint16([]byte{0, 0}, port)
}
