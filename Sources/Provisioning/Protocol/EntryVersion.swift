import DequeModule
import DirectoryModel

/// Compares the versions of an entry by their entryCSNs, as OpenLDAP orders them: by time, counter, server and modification
/// (draft-ietf-ldup-model-09, section 4.3). What is written otherwise cannot be compared.
enum EntryVersion {
    /// Whether one is certainly the older one.
    static func `is`(_ csn: AttributeValue, olderThan other: AttributeValue) -> Bool {
        guard let csn = csn.text, let other = other.text, isComparable(csn), isComparable(other) else { return false }
        return csn < other
    }

    /// `20261128120000.123456Z#000000#001#000000`
    private static func isComparable(_ csn: String) -> Bool {
        csn.utf8.count == 40
            && csn.utf8.allSatisfy {
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "#.Zabcdef".utf8.contains($0)
            }
    }
}

/// The newest versions of entries that this process has written or heard of. A server that shows an older one lags behind the one that told of it,
/// and decides nothing. Only so many entries are remembered: a server lags for seconds or minutes.
struct SeenVersions: Sendable {
    private var newest: [EntryUUID: AttributeValue] = [:]
    private var order: Deque<EntryUUID> = []
    private let capacity: Int

    init(capacity: Int = 4_096) { self.capacity = capacity }

    subscript(_ uuid: EntryUUID) -> AttributeValue? { newest[uuid] }

    mutating func insert(_ csn: AttributeValue, of uuid: EntryUUID) {
        if let known = newest[uuid] {
            if EntryVersion.is(known, olderThan: csn) { newest[uuid] = csn }
            return
        }
        newest[uuid] = csn
        order.append(uuid)
        if order.count > capacity { newest[order.removeFirst()] = nil }
    }

    mutating func forget(_ uuid: EntryUUID) {
        // Its place in the order is used again, or emptied when its turn comes.
        if newest[uuid] != nil, let index = order.firstIndex(of: uuid) {
            order.remove(at: index)
            newest[uuid] = nil
        }
    }
}
