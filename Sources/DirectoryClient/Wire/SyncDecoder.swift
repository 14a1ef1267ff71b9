import DirectoryModel

/// Turns the messages of a content synchronization (RFC 4533, sections 2 and 3) into events. Pure: no message is lost, sent twice or put in
/// another order, and garbage is an error.
struct SyncDecoder {
    static let state = "1.3.6.1.4.1.4203.1.9.1.2"
    static let done = "1.3.6.1.4.1.4203.1.9.1.3"
    static let info = "1.3.6.1.4.1.4203.1.9.1.4"

    private var isRefreshing = true

    /// - Parameter controls: of the message; must hold the Sync State control.
    mutating func events(entry: Entry, controls: [Control]) throws(BERReader.Malformed) -> [SyncEvent] {
        guard let value = controls.value(of: Self.state) else { throw BERReader.Malformed() }
        var reader = BERReader(value)
        var members = try reader.members(BER.sequence)
        let state = try members.number(BER.enumerated)
        let uuid = try Self.uuid(members.content(BER.octets))
        let cookie = try members.optional(BER.octets)
        let event: SyncEvent =
            switch state {
            case 0: .present(uuid)
            case 1: .entry(entry, uuid, .add)
            case 2: .entry(entry, uuid, .modify)
            case 3: .deleted(uuid)
            default: throw BERReader.Malformed()
            }
        return [event] + Self.event(cookie)
    }

    /// - Parameter info: the value of a Sync Info message.
    mutating func events(info: [UInt8]) throws(BERReader.Malformed) -> [SyncEvent] {
        var reader = BERReader(info)
        switch reader.nextTag {
        case BER.context(0):
            return Self.event(try reader.content(BER.context(0)))
        case BER.context(1, constructed: true), BER.context(2, constructed: true):
            let deletes = reader.nextTag == BER.context(1, constructed: true)
            var members = try reader.members(
                deletes ? BER.context(1, constructed: true) : BER.context(2, constructed: true))
            let cookie = try members.optional(BER.octets)
            let isDone = try members.flag(default: true)
            return [.phaseDone(deletes: deletes)] + (isDone ? endRefresh() : []) + Self.event(cookie)
        case BER.context(3, constructed: true):
            var members = try reader.members(BER.context(3, constructed: true))
            let cookie = try members.optional(BER.octets)
            let deletes = try members.flag(default: false)
            var set = try members.members(BER.set)
            var uuids: [EntryUUID] = []
            while !set.isAtEnd { uuids.append(try Self.uuid(set.content(BER.octets))) }
            return [.identifiers(uuids, deleted: deletes)] + Self.event(cookie)
        default: throw BERReader.Malformed()
        }
    }

    /// - Parameter controls: of the successful end of the search; the Sync Done control says how a refresh without persisting ended.
    mutating func events(end controls: [Control]) throws(BERReader.Malformed) -> [SyncEvent] {
        guard let value = controls.value(of: Self.done) else { return endRefresh() }
        var reader = BERReader(value)
        var members = try reader.members(BER.sequence)
        let cookie = try members.optional(BER.octets)
        let deletes = try members.flag(default: false)
        return (isRefreshing ? [.phaseDone(deletes: deletes)] : []) + endRefresh() + Self.event(cookie)
    }

    private mutating func endRefresh() -> [SyncEvent] {
        defer { isRefreshing = false }
        return isRefreshing ? [.refreshDone] : []
    }

    private static func event(_ cookie: ArraySlice<UInt8>?) -> [SyncEvent] { cookie.map { [.cookie(Array($0))] } ?? [] }

    private static func uuid(_ bytes: ArraySlice<UInt8>) throws(BERReader.Malformed) -> EntryUUID {
        guard let uuid = EntryUUID(bytes: bytes) else { throw BERReader.Malformed() }
        return uuid
    }
}
