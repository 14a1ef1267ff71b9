import TestSupport
import Testing

@testable import LDAP

struct BERTests {
    @Test(
        arguments: [
            (0, [0x02, 1, 0]), (127, [2, 1, 127]), (128, [2, 2, 0, 128]), (500, [2, 2, 1, 0xf4]), (-1, [2, 1, 0xff]),
            (-128, [2, 1, 0x80]), (-129, [2, 2, 0xff, 0x7f]), (Int(Int32.max), [2, 4, 0x7f, 0xff, 0xff, 0xff]),
        ] as [(Int, [UInt8])])
    func `numbers have the shortest form and come back`(number: Int, bytes: [UInt8]) throws {
        #expect(BER.number(BER.integer, number) == bytes)
        var reader = BERReader(bytes)
        #expect(try reader.number(BER.integer) == number)
        #expect(reader.isAtEnd)
    }

    @Test(arguments: [0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 20])
    func `content of any length comes back`(count: Int) throws {
        let content = [UInt8](repeating: 9, count: count)
        var reader = BERReader(BER.element(BER.octets, content) + [1])
        #expect(try reader.content(BER.octets) == content[...])
        #expect(reader.nextTag == 1)
    }

    @Test(
        arguments: [
            [], [4], [4, 1], [4, 2, 0], [4, 0x80, 0, 0], [4, 0x81], [4, 0x84, 0xff, 0xff, 0xff, 0xff],
            [4, 0x85, 0, 0, 0, 0, 0],
            [4, 0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], [4, 0xff], [5, 0],
        ] as [[UInt8]])
    func `what is cut off or has another form is malformed`(bytes: [UInt8]) {
        var reader = BERReader(bytes)
        #expect(throws: BERReader.Malformed.self) { try reader.content(BER.octets) }
    }

    @Test func `numbers and flags of a wrong length are malformed`() {
        for bytes in [[2, 0], [2, 5, 1, 1, 1, 1, 1]] as [[UInt8]] {
            var reader = BERReader(bytes)
            #expect(throws: BERReader.Malformed.self) { try reader.number(BER.integer) }
        }
        for bytes in [[1, 0], [1, 2, 0, 0]] as [[UInt8]] {
            var reader = BERReader(bytes)
            #expect(throws: BERReader.Malformed.self) { try reader.flag(default: true) }
        }
    }
}

struct ControlTests {
    /// Every decoder that reads what a server sends.
    private func decode(_ bytes: [UInt8]) {
        var decoder = SyncDecoder()
        let entry = Entry(dn: .root)
        func tolerate<T>(_ body: () throws(BERReader.Malformed) -> T) {
            do throws(BERReader.Malformed) { _ = try body() } catch {}
        }
        tolerate { () throws(BERReader.Malformed) in try decoder.event(info: bytes) }
        for identifier in [SyncDecoder.state] + ServerFeature.allCases.map(\.rawValue) {
            let controls = [Control(identifier, value: bytes)]
            tolerate { () throws(BERReader.Malformed) in try decoder.event(entry: entry, controls: controls) }
            tolerate { () throws(BERReader.Malformed) in try controls.nextPage() }
            tolerate { () throws(BERReader.Malformed) in try controls.postRead() }
        }
    }

    @Test func `garbage never does more than fail`() {
        var random = SeededGenerator(seed: 42)
        for _ in 0..<5000 {
            decode((0..<Int.random(in: 0..<60, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
        }
        let uuid = [UInt8](repeating: 7, count: 16)
        let good: [[UInt8]] = [
            BER.element(
                BER.sequence,
                BER.number(BER.enumerated, 1) + BER.element(BER.octets, uuid) + BER.element(BER.octets, "c")),
            BER.element(BER.context(1, constructed: true), BER.element(BER.octets, "c") + BER.flag(BER.boolean, false)),
            BER.element(
                BER.context(3, constructed: true),
                BER.flag(BER.boolean, true)
                    + BER.element(BER.set, BER.element(BER.octets, uuid) + BER.element(BER.octets, uuid))),
            BER.element(
                Entry.resultTag,
                BER.element(BER.octets, "cn=a")
                    + BER.element(
                        BER.sequence,
                        BER.element(
                            BER.sequence,
                            BER.element(BER.octets, "cn") + BER.element(BER.set, BER.element(BER.octets, "a"))))),
        ]
        for bytes in good {
            for length in 0...bytes.count { decode(Array(bytes.prefix(length))) }
            for _ in 0..<2000 {
                var changed = bytes
                changed[Int.random(in: 0..<changed.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                decode(changed)
            }
        }
    }

    @Test func `an entry in a control is the entry`() throws {
        let value = BER.element(
            Entry.resultTag,
            BER.element(BER.octets, "cn=a,dc=b")
                + BER.element(
                    BER.sequence,
                    BER.element(
                        BER.sequence,
                        BER.element(BER.octets, "cn")
                            + BER.element(BER.set, BER.element(BER.octets, "a") + BER.element(BER.octets, "é")))))
        let entry = try [Control(ServerFeature.postRead.rawValue, value: value)].postRead()
        #expect(
            entry
                == Entry(
                    dn: DN.root.appending("dc", "b").appending("cn", "a"), attributes: [Attribute("cn", ["a", "é"])]))
        #expect(try [Control]().postRead() == nil)
    }

    @Test func `the last page has no cookie`() throws {
        func page(_ cookie: String) -> [Control] {
            let value = BER.element(BER.sequence, BER.number(BER.integer, 0) + BER.element(BER.octets, cookie))
            return [Control(ServerFeature.pagedResults.rawValue, value: value)]
        }
        #expect(try page("next").nextPage() == Array("next".utf8))
        #expect(try page("").nextPage() == nil)
        #expect(try [Control]().nextPage() == nil)
    }

    @Test func `a sync request is critical and has the mode`() {
        #expect(Control.syncRequest.value == [0x30, 3, 0x0a, 1, 3])
        #expect(Control.syncRequest.isCritical)
    }
}

struct SyncDecoderTests {
    private let uuid = [UInt8](repeating: 7, count: 16)
    private let entry = Entry(dn: DN.root.appending("cn", "a"))

    private func state(_ number: Int, cookie: [UInt8] = []) -> [Control] {
        let value = BER.number(BER.enumerated, number) + BER.element(BER.octets, uuid) + cookie
        return [Control(SyncDecoder.state, value: BER.element(BER.sequence, value))]
    }

    @Test func `each state of an entry is its event, with or without a cookie`() throws {
        let decoder = SyncDecoder()
        let id = try #require(EntryUUID(bytes: uuid[...]))
        for cookie in [[], BER.element(BER.octets, "c")] {
            #expect(try decoder.event(entry: entry, controls: state(0, cookie: cookie)) == .unchanged)
            #expect(try decoder.event(entry: entry, controls: state(1, cookie: cookie)) == .entry(entry, id))
            #expect(try decoder.event(entry: entry, controls: state(2, cookie: cookie)) == .entry(entry, id))
            #expect(try decoder.event(entry: entry, controls: state(3, cookie: cookie)) == .deleted([id]))
        }
        #expect(throws: BERReader.Malformed.self) { try decoder.event(entry: entry, controls: state(4)) }
        #expect(throws: BERReader.Malformed.self) { try decoder.event(entry: entry, controls: []) }
    }

    @Test func `the refresh is done once, whichever phase ends it`() throws {
        for tag in [UInt8(1), 2] {
            var decoder = SyncDecoder()
            let goesOn = BER.element(BER.context(tag, constructed: true), BER.flag(BER.boolean, false))
            let ends = BER.element(BER.context(tag, constructed: true), BER.element(BER.octets, "c"))
            #expect(try decoder.event(info: goesOn) == .unchanged)
            #expect(try decoder.event(info: ends) == .refreshDone)
            #expect(try decoder.event(info: ends) == .unchanged)
        }
    }

    @Test func `a set of identifiers is an event if they are deleted, a new cookie is none`() throws {
        var decoder = SyncDecoder()
        let id = try #require(EntryUUID(bytes: uuid[...]))
        let set = BER.element(BER.set, BER.element(BER.octets, uuid) + BER.element(BER.octets, uuid))
        #expect(try decoder.event(info: BER.element(BER.context(3, constructed: true), set)) == .unchanged)
        #expect(
            try decoder.event(info: BER.element(BER.context(3, constructed: true), BER.flag(BER.boolean, true) + set))
                == .deleted([id, id]))
        #expect(try decoder.event(info: BER.element(BER.context(0), "c")) == .unchanged)
    }
}
