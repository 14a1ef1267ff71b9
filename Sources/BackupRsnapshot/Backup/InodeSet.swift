/// The files that were met, by device and inode.
///
/// A file system gives neighbouring numbers to files that are made together, so one word stands for 64 neighbours: ten million files of one
/// account take a few megabytes, and at the very worst 32 bytes for each.
struct InodeSet {
    private var devices: [UInt64: [UInt64: UInt64]] = [:]

    /// - Returns: false when the file was met before.
    mutating func insert(device: UInt64, inode: UInt64) -> Bool {
        let bit: UInt64 = 1 << (inode % 64)
        return Self.set(bit, in: &devices[device, default: [:]][inode / 64, default: 0])
    }

    private static func set(_ bit: UInt64, in word: inout UInt64) -> Bool {
        defer { word |= bit }
        return word & bit == 0
    }
}
