package sockdiag

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The answers of Linux 6.18 (x86-64) to request 7, byte for byte.
const (
	answerEstablished = "7c0000001400020007000000a701000002010200c59eb6657f000001000000000000000000000000" +
		"7f00000100000000000000000000000000000000a946010000000000943a0000000000000000000000000000" +
		"4db40a00050008000000000008000f00000000000c00150001000000000000000600160052000000"
	answerTimeWait = "600000001400020007000000a701000002060300c5aeb6657f000001000000000000000000000000" +
		"7f00000100000000000000000000000000000000a54601000000000058ea000000000000000000000000000000000000" +
		"08000f0000000000"
	answerIPv6 = "7c0000001400020007000000a70100000a010200bcbc970d00000000000000000000000000000001" +
		"0000000000000000000000000000000100000000aa46010000000000903a0000000000000000000000000000" +
		"54be0a00050008000000000008000f00000000000c00150001000000000000000600160012000000"
	answerMapped = "7c0000001400020007000000a70100000a010200b10bc9ae00000000000000000000ffff7f000005" +
		"00000000000000000000ffff7f00000100000000ab460100000000008c3a0000000000000000000000000000" +
		"5eb40a00050008000000000008000f00000000000c00150001000000000000000600160012000000"
	answerDone   = "140000000300020007000000a701000000000000"
	answerENOENT = "140000000300020007000000a7010000feffffff"
)

func fromHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func skipUnlessLittleEndian(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the recorded messages are from a little-endian host")
	}
}

// Recorded answers of the kernel decode to the right sockets.
func TestDecodeRealAnswers(t *testing.T) {
	skipUnlessLittleEndian(t)
	end := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		answer string
		want   Socket
	}{
		"established": {answerEstablished, Socket{
			Protocol: TCP, Family: IPv4, State: Established, Inode: 0xab44d, Cookie: 0x146a9,
			Local: end("127.0.0.1:50590"), Remote: end("127.0.0.1:46693"),
		}},
		"time-wait": {answerTimeWait, Socket{
			Protocol: TCP, Family: IPv4, State: TimeWait, Cookie: 0x146a5, Expires: 59992 * time.Millisecond,
			Local: end("127.0.0.1:50606"), Remote: end("127.0.0.1:46693"),
		}},
		"IPv6": {answerIPv6, Socket{
			Protocol: TCP, Family: IPv6, State: Established, Inode: 0xabe54, Cookie: 0x146aa,
			Local: end("[::1]:48316"), Remote: end("[::1]:38669"),
		}},
		"IPv4 on IPv6": {answerMapped, Socket{
			Protocol: TCP, Family: IPv6, State: Established, Inode: 0xab45e, Cookie: 0x146ab,
			Local: end("127.0.0.5:45323"), Remote: end("127.0.0.1:51630"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m, rest, err := nextMessage(fromHex(c.answer + answerDone))
			require.NoError(t, err)
			require.Equal(t, uint16(typeSockDiag), m.kind)
			require.Equal(t, uint32(7), m.seq)
			got, err := decodeSocket(m.payload, TCP)
			require.NoError(t, err)
			require.Equal(t, c.want, got)

			m, rest, err = nextMessage(rest)
			require.NoError(t, err)
			require.Equal(t, uint16(typeDone), m.kind)
			require.Zero(t, m.errno())
			require.Empty(t, rest)
		})
	}
	m, _, err := nextMessage(fromHex(answerENOENT))
	require.NoError(t, err)
	require.Equal(t, 2, m.errno())
}

// A request has the conditions of the Query in the form of the kernel.
func TestDumpRequest(t *testing.T) {
	q := Query{Protocol: UDP, States: StatesOf(Established, Close), Remote: At(netip.MustParseAddrPort("127.0.0.1:53"))}
	b, err := appendDump([]byte{1, 2, 3, 4}, q, IPv6, 99)
	require.NoError(t, err)
	m, rest, err := nextMessage(b[4:])
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, uint16(typeSockDiag), m.kind)
	require.Equal(t, uint16(0x301), m.flags)
	require.Equal(t, uint32(99), m.seq)
	require.Equal(t, []byte{10, 17, 0, 0}, m.payload[:4])
	require.Equal(t, uint32(1<<1|1<<7), binary.NativeEndian.Uint32(m.payload[4:]))
	require.Equal(t, make([]byte, 48), m.payload[8:requestSize])

	attr := m.payload[requestSize:]
	require.Len(t, attr, int(binary.NativeEndian.Uint16(attr)))
	require.Equal(t, uint16(attrBytecode), binary.NativeEndian.Uint16(attr[2:]))
	code, err := q.bytecode()
	require.NoError(t, err)
	require.Equal(t, code, attr[attrHeader:])

	// The request for both families at once is the older one, which is four bytes longer.
	old, err := appendDump(nil, Query{States: q.States, Remote: q.Remote}, bothFamilies, 99)
	require.NoError(t, err)
	m, rest, err = nextMessage(old)
	require.NoError(t, err)
	require.Empty(t, rest)
	require.Equal(t, uint16(typeTCPDiag), m.kind)
	require.Equal(t, make([]byte, 48), m.payload[4:52])
	require.Equal(t, uint32(1<<1|1<<7), binary.NativeEndian.Uint32(m.payload[52:]))
	require.Equal(t, code, m.payload[oldRequestSize+attrHeader:])

	b, err = appendDump(nil, Query{}, IPv4, 1)
	require.NoError(t, err)
	require.Len(t, b, messageHeader+requestSize, "no filter, no attribute")
	require.Equal(t, uint32(everyState), binary.NativeEndian.Uint32(b[messageHeader+4:]))
}

// The request of a look-up has both ends in network byte order and no cookie. The local end comes first for TCP, and
// last for UDP.
func TestLookupRequest(t *testing.T) {
	for _, ends := range [][2]string{
		{"10.1.2.3:258", "10.4.5.6:443"},
		{"[2001:db8::1]:258", "[2001:db8::2]:443"},
	} {
		local, remote := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
		for _, protocol := range []Protocol{TCP, UDP} {
			m, rest, err := nextMessage(appendLookup(nil, Exact{
				Protocol: protocol, Local: local, Remote: remote, Device: 7,
			}, 5))
			require.NoError(t, err)
			require.Empty(t, rest)
			require.Equal(t, uint16(flagRequest), m.flags)
			require.Len(t, m.payload, requestSize)
			require.Equal(t, byte(protocol), m.payload[1])
			require.Equal(t, noCookie, binary.NativeEndian.Uint32(m.payload[48:]))
			require.Equal(t, noCookie, binary.NativeEndian.Uint32(m.payload[52:]))

			// The ends are in the request as in an answer, but four bytes later.
			answer := make([]byte, replySize)
			answer[0] = m.payload[0]
			copy(answer[4:], m.payload[8:])
			s, err := decodeSocket(answer, protocol)
			require.NoError(t, err)
			if protocol == UDP {
				s.Local, s.Remote = s.Remote, s.Local
			}
			require.Equal(t, local, s.Local)
			require.Equal(t, remote, s.Remote)
			require.Equal(t, 7, s.Device)
		}
	}
}

// An answer that is cut off, or that has a wrong length, is an error.
func TestMalformedAnswers(t *testing.T) {
	skipUnlessLittleEndian(t)
	whole := fromHex(answerEstablished)
	for n := range len(whole) {
		_, _, err := nextMessage(whole[:n])
		require.Error(t, err, n)
	}
	for _, size := range []uint32{0, 15, uint32(len(whole)) + 1, 1<<32 - 1, 1<<32 - 3} {
		b := fromHex(answerEstablished)
		binary.NativeEndian.PutUint32(b, size)
		_, _, err := nextMessage(b)
		require.Error(t, err, size)
	}
	m, _, err := nextMessage(whole)
	require.NoError(t, err)
	_, err = decodeSocket(m.payload[:replySize-1], TCP)
	require.ErrorContains(t, err, "71 bytes of 72")
	_, err = decodeSocket(make([]byte, replySize), TCP)
	require.ErrorContains(t, err, "family 0")
}

// The codec never panics, never loops, and never returns an IPv4-mapped address, for any bytes.
func FuzzDatagram(f *testing.F) {
	for _, seed := range []string{
		answerEstablished, answerTimeWait, answerIPv6, answerMapped, answerDone, answerENOENT,
		answerEstablished + answerTimeWait + answerDone,
	} {
		f.Add(fromHex(seed))
	}
	q := Query{Local: At(netip.MustParseAddrPort("[::1]:1")), Remote: Match{Ports: []PortRange{{First: 1, Last: 9}}}}
	request, err := appendDump(nil, q, IPv6, 7)
	require.NoError(f, err)
	f.Add(request)
	f.Fuzz(func(t *testing.T, datagram []byte) {
		for len(datagram) > 0 {
			m, rest, err := nextMessage(datagram)
			if err != nil {
				return
			}
			require.Less(t, len(rest), len(datagram))
			require.LessOrEqual(t, len(m.payload)+len(rest), len(datagram)-messageHeader)
			_ = m.errno()
			if s, err := decodeSocket(m.payload, TCP); err == nil {
				for _, end := range []netip.AddrPort{s.Local, s.Remote} {
					require.True(t, end.IsValid())
					require.False(t, end.Addr().Is4In6())
				}
				require.GreaterOrEqual(t, s.Expires, time.Duration(0))
			}
			datagram = rest
		}
	})
}
