package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The kernel filters sockets by a little program (INET_DIAG_REQ_BYTECODE;
// net/ipv4/inet_diag.c: inet_diag_bc_audit, inet_diag_bc_run). An instruction
// is a code, the distance to go when its test holds (yes: in practice its own
// length, for the verifier walks the program by it), the distance to go when it
// does not (no: forwards, onto an instruction), and operands. A socket is
// accepted by a program that ends exactly at its end and rejected by a jump to
// four bytes past it.
const (
	opJump        = 1 // INET_DIAG_BC_JMP: its test never holds
	opLocalGE     = 2 // INET_DIAG_BC_S_GE
	opLocalLE     = 3 // INET_DIAG_BC_S_LE
	opRemoteGE    = 4 // INET_DIAG_BC_D_GE
	opRemoteLE    = 5 // INET_DIAG_BC_D_LE
	opLocalMatch  = 7 // INET_DIAG_BC_S_COND
	opRemoteMatch = 8 // INET_DIAG_BC_D_COND

	opHeader = 4 // struct inet_diag_bc_op
	anyPort  = ^uint32(0)

	// maxBytecode keeps the attribute within its 16-bit length.
	maxBytecode = 1<<16 - 1 - 4 - attrHeader
)

// instruction is one test. Its operands do not depend on where it stands.
type instruction struct {
	code     byte
	negated  bool // must not hold
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

// condition is a list of alternatives of which one must hold.
type condition []alternative

// size is the length of the alternatives, each but the last followed by a jump
// to the end of the condition.
func (c condition) size() int {
	n := (len(c) - 1) * opHeader
	for _, a := range c {
		for _, i := range a {
			n += i.size()
		}
	}
	return n
}

// bytecode returns the program for what the Query says about the two ends; it
// is empty when that is nothing.
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
		return nil, fmt.Errorf("the filter needs %d bytes and the kernel takes %d: match fewer prefixes and port ranges",
			total, maxBytecode)
	}
	code := make([]byte, 0, total)
	for _, c := range conditions {
		code = c.appendTo(code, total)
	}
	return code, nil
}

// appendTo appends the instructions of c to a program that will be total bytes
// long.
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
				// yes reaches only 255 bytes, hence the jump.
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

// appendTo appends the one instruction, which goes to the offset no if its
// test does not hold.
func (i instruction) appendTo(code []byte, no int) []byte {
	at := len(code)
	code = append(code, i.code, byte(opHeader+len(i.operands)))
	code = binary.NativeEndian.AppendUint16(code, uint16(no-at))
	return append(code, i.operands...)
}

// portCondition tests one port by equality in a host condition rather than by
// the instructions for equality, which came with Linux 5.0 only.
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

// hostCondition is struct inet_diag_hostcond; the zero Prefix is any address.
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

// portOperand is the port of the comparisons: the "no" of a header of its own.
func portOperand(port uint16) []byte {
	return binary.NativeEndian.AppendUint16([]byte{0, 0}, port)
}
