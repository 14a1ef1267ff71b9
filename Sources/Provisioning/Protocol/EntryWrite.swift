public import LDAP
public import JobCore

/// One modify of one entry, as it was read: every write asserts the entryUUID and the entryCSN.
///
/// So a request that was written since is not lost, and a late write of a lost connection or a dead process changes
/// nothing. Checked in `docs/model`.
public struct EntryWrite: Hashable, Sendable {
    /// The changes in their order; the server makes all or none.
    public var modifications: [Modification]
    /// Sent as a critical assertion (RFC 4528).
    public private(set) var assertion: Filter
    /// The asserted entryCSN.
    public private(set) var csn: AttributeValue
    /// The claim before the write, where daemons share accounts.
    private var claimBefore: String?
    /// The mode after the write; with the following ones it tells whether a write of unknown outcome was carried out.
    public var mode: ProvisioningMode
    /// The state afterwards.
    public var state: String
    /// The ReturnValue afterwards.
    public var returnValue: String?
    /// The claim after the write, where daemons share accounts.
    public var claim: String?

    /// `add` → `adding`.
    /// - Parameter holder: the daemon's name and a token that no other claim has; nil where daemons do not share accounts.
    public static func claim(_ status: AccountStatus, holder: String?, names: AttributeNames) -> Self {
        var write = Self(status, to: .claimed, names: names)
        write.setReturnValue(nil, names: names)
        write.setClaim(holder, names: names)
        return write
    }

    /// `adding` stays, and the work continues. Late writes of the process that claimed the entry before fail after this.
    public static func resume(_ status: AccountStatus, holder: String?, names: AttributeNames) -> Self {
        var write = Self(status, to: .claimed, names: names)
        write.setClaim(holder, names: names)
        return write
    }

    /// `adding` → `added`, with the time.
    public static func finish(_ status: AccountStatus, at time: Timestamp, names: AttributeNames) -> Self {
        var write = Self(status, to: .done, names: names)
        write.state = time.text
        write.modifications.append(.replace(names.state, AttributeValue(time.text)))
        write.setReturnValue("0", names: names)
        write.releaseClaim(of: status, names: names)
        return write
    }

    /// `adding` stays, with a ReturnValue; `add` → `adding` with one for a request that is refused because it cannot be carried out as it is.
    public static func fail(_ status: AccountStatus, _ code: ProvisioningExitCode, names: AttributeNames) -> Self {
        var write = Self(status, to: .claimed, names: names)
        write.setReturnValue(String(code.rawValue), names: names)
        write.releaseClaim(of: status, names: names)
        return write
    }

    /// Removes the claim, and changes nothing else.
    /// - Returns: nil without a claim.
    public static func release(_ status: AccountStatus, names: AttributeNames) -> Self? {
        guard names.claim != nil, status.claim != nil else { return nil }
        var write = Self(status, to: status.mode.stage, names: names)
        write.modifications = []
        write.returnValue = status.returnValue
        write.releaseClaim(of: status, names: names)
        return write
    }

    /// `adding` with a ReturnValue → `add`, or `add` → `add`: an operator asks for another attempt.
    public static func retry(_ status: AccountStatus, names: AttributeNames) -> Self {
        var write = Self(status, to: .requested, names: names)
        write.setReturnValue(nil, names: names)
        return write
    }

    /// Whether the entry is as this write would have left it, and not as another daemon's write would.
    public func isFulfilled(by status: AccountStatus) -> Bool {
        status.mode == mode && status.state == state && status.returnValue == returnValue && status.claim == claim
    }

    /// A write of the same outcome to an entry that has been changed since; nil when the entry does not wait for it any more: it has another
    /// request, an outcome, or another claim.
    func following(_ status: AccountStatus) -> Self? {
        guard status.phase == .claimed, status.mode.operation == mode.operation, status.claim == claimBefore else {
            return nil
        }
        var write = self
        (write.csn, write.assertion) = (status.csn, Self.assertion(status))
        return write
    }

    private init(_ status: AccountStatus, to stage: ProvisioningMode.Stage, names: AttributeNames) {
        mode = ProvisioningMode(status.mode.operation, stage)
        state = status.state
        claim = status.claim
        claimBefore = status.claim
        csn = status.csn
        assertion = Self.assertion(status)
        modifications = [
            .delete(names.mode, AttributeValue(status.mode.description)),
            .add(names.mode, AttributeValue(mode.description)),
        ]
    }

    private static func assertion(_ status: AccountStatus) -> Filter {
        .and([
            .equal(AttributeNames.entryUUID, AttributeValue(status.uuid.description)),
            .equal(AttributeNames.entryCSN, status.csn),
        ])
    }

    private mutating func setClaim(_ holder: String?, names: AttributeNames) {
        guard let attribute = names.claim, let holder else { return }
        modifications.append(.replace(attribute, AttributeValue(holder)))
        claim = holder
    }

    private mutating func setReturnValue(_ value: String?, names: AttributeNames) {
        guard let attribute = names.returnValue else { return }
        returnValue = value
        modifications.append(Modification(.replace, attribute, value.map { [AttributeValue($0)] } ?? []))
    }

    /// Deletes exactly our value, so that this write cannot remove another claim.
    private mutating func releaseClaim(of status: AccountStatus, names: AttributeNames) {
        guard let attribute = names.claim, let claim = status.claim else { return }
        modifications.append(.delete(attribute, AttributeValue(claim)))
        self.claim = nil
    }
}

extension EntryWrite: CustomStringConvertible {
    /// The modifications in one line, for messages.
    public var description: String {
        modifications.map { change in
            "\(change.action) \(change.attribute)" + (change.values.isEmpty ? "" : ": ")
                + change.values.map(\.description).joined(separator: ", ")
        }.joined(separator: "; ")
    }
}
