public import DirectoryModel

/// One modify of one entry that names what it replaces (specification, section 1, "What each write is").
public struct EntryWrite: Hashable, Sendable {
    /// In their order; all or none.
    public var modifications: [Modification]
    /// Sent as a critical assertion (RFC 4528); nil where deleting the old mode is condition enough.
    public var assertion: Filter?
    /// What stands in the entry afterwards, by which a write of unknown outcome is recognized.
    public var mode: ProvisioningMode
    /// The state afterwards.
    public var state: String
    /// The ReturnValue afterwards.
    public var returnValue: String?
    /// Who holds it afterwards, where daemons share accounts.
    public var claim: String?

    /// `add` → `adding`. It asserts the entryCSN that was read: a wish that was written again meanwhile, with other
    /// values, must not be lost.
    public static func claim(_ status: AccountStatus, holder: String?, names: AttributeNames) -> Self {
        var write = Self(status, to: .claimed, names: names)
        write.assertion = .equal(AttributeNames.entryCSN, status.csn)
        write.setReturnValue(nil, names: names)
        if let attribute = names.claim, let holder {
            write.modifications.append(.replace(attribute, AttributeValue(holder)))
            write.claim = holder
        }
        return write
    }

    /// A claim and its failure in one write, for a wish that cannot be carried out as it stands.
    public static func refuse(_ status: AccountStatus, _ code: ProvisioningExitCode, names: AttributeNames) -> Self {
        var write = claim(status, holder: nil, names: names)
        write.modifications.removeAll { $0.attribute == names.returnValue }
        write.setReturnValue(String(code.rawValue), names: names)
        return write
    }

    /// `adding` → `added`, with the time. Its only condition is the mode: changes of other attributes do not disturb it.
    public static func finish(_ status: AccountStatus, at time: ProvisioningTimestamp, names: AttributeNames) -> Self {
        var write = Self(status, to: .done, names: names)
        write.state = time.description
        write.modifications.append(.replace(names.state, AttributeValue(time.description)))
        write.setReturnValue("0", names: names)
        write.releaseClaim(of: status, names: names)
        return write
    }

    /// `adding` stays, and says why.
    public static func fail(_ status: AccountStatus, _ code: ProvisioningExitCode, names: AttributeNames) -> Self {
        var write = Self(status, to: .claimed, names: names)
        write.setReturnValue(String(code.rawValue), names: names)
        write.releaseClaim(of: status, names: names)
        return write
    }

    /// `adding` with a ReturnValue → `add`: an operator asks for another try.
    public static func retry(_ status: AccountStatus, names: AttributeNames) -> Self {
        var write = Self(status, to: .wish, names: names)
        write.assertion = .equal(AttributeNames.entryCSN, status.csn)
        write.setReturnValue(nil, names: names)
        return write
    }

    /// Whether the entry is still one of those that are watched for (``WatchScope``): then the write comes back as an echo.
    var isPending: Bool { state == "0" && returnValue == nil }

    /// Whether the entry stands as this write would have left it, and not as another daemon's.
    public func isFulfilled(by status: AccountStatus) -> Bool {
        status.mode == mode && status.state == state && status.returnValue == returnValue && status.claim == claim
    }

    private init(_ status: AccountStatus, to stage: ProvisioningMode.Stage, names: AttributeNames) {
        mode = ProvisioningMode(status.mode.operation, stage)
        state = status.state
        claim = status.claim
        modifications = [
            .delete(names.mode, AttributeValue(status.mode.description)),
            .add(names.mode, AttributeValue(mode.description)),
        ]
    }

    private mutating func setReturnValue(_ value: String?, names: AttributeNames) {
        guard let attribute = names.returnValue else { return }
        returnValue = value
        modifications.append(Modification(.replace, attribute, value.map { [AttributeValue($0)] } ?? []))
    }

    /// Deleting exactly the value that was written keeps others' work safe from this write.
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
