/// One record of an LDIF file (RFC 2849): an entry, or a change to one.
public struct LDIFRecord: Hashable, Sendable {
    /// The entry that the record is about.
    public var dn: DN
    /// What stands in the record, or is to be done.
    public var change: LDIFChange
    /// The controls to send with the change; a content record has none.
    public var controls: [LDIFControl]
    /// The number, from 1, of the record's first line in its file; 0 for a record that was not read.
    public var line: Int

    /// - Parameter line: the record's first line in its file, from 1; 0 for a record that was not read.
    public init(dn: DN, change: LDIFChange, controls: [LDIFControl] = [], line: Int = 0) {
        self.dn = dn
        self.change = change
        self.controls = controls
        self.line = line
    }

    /// A content record that holds an entry.
    public init(_ entry: Entry) { self.init(dn: entry.dn, change: .content(entry.attributes)) }
}

/// What an LDIF record says about its entry.
public enum LDIFChange: Hashable, Sendable {
    /// The entry's content, in a record without `changetype`. Values of one attribute are gathered in one place.
    case content([Attribute])
    /// `changetype: add`: the entry is to be added.
    case add([Attribute])
    /// `changetype: delete`: the entry is to be deleted.
    case delete
    /// `changetype: modify`: the entry's attributes are to be changed, in this order, all or none.
    case modify([Modification])
    /// `changetype: modrdn` and `moddn`: the entry is to get another name, or another place when `newSuperior` is given.
    case rename(newRDN: RDN, deleteOldRDN: Bool, newSuperior: DN?)
}

/// A control that an LDIF record asks to be sent (RFC 4511, section 4.1.11).
public struct LDIFControl: Hashable, Sendable {
    /// The control's type, a dotted number.
    public var oid: String
    /// Whether a server that does not know the control must refuse the change.
    public var isCritical: Bool
    /// The control's value; nil when it has none.
    public var value: AttributeValue?

    /// - Parameter oid: a dotted number.
    public init(_ oid: String, isCritical: Bool = false, value: AttributeValue? = nil) {
        self.oid = oid
        self.isCritical = isCritical
        self.value = value
    }
}
