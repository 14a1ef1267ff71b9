public import DirectoryModel
public import JobCore

extension JobSubject {
    /// An account, for jobs of every type.
    public init(_ account: EntryUUID) { self.init(account.description) }
}
