"""A policy in sentences, so that whoever answers for it can read what it lets through."""

from server.gateway.core.policy import Policy


def policy_lines(policy: Policy) -> list[str]:
    """One line a rule; what is not named does not cross."""
    file = policy.file
    lines = [f"Policy {policy.fingerprint}. What is not named here does not cross. 未列出的内容一律不放行。", ""]
    lines.append("Out of the hospital 送出医院:" if file.out else "Nothing leaves the hospital. 无任何数据可离开医院。")
    for rule in file.out:
        types = ", ".join(rule.types) or ", ".join(sorted(file.fields)) or "no type"
        sources = f" from {', '.join(rule.sources)}" if rule.sources else ""
        lines.append(f"  {rule.kind}{sources} as {', '.join(rule.media_types)}: {types}")
    lines.append("")
    lines.append("Into the hospital 送入医院:" if file.in_ else "Nothing enters the hospital. 无任何数据可进入医院。")
    lines.extend(f"  {rule.kind} as {', '.join(rule.media_types)}" for rule in file.in_)
    lines.append("")
    lines.append("Elements 字段:")
    for kind, fields in sorted(file.fields.items()):
        lines.append(f"  {kind}: {', '.join(fields.allow) or 'only its id'}")
        lines.extend(f"    {path} becomes {value!r}" for path, value in fields.replace.items())
        lines.extend(f"    {path} becomes a pseudonym" for path in fields.hash)
        lines.extend(f"    of its identifiers only those of {system}" for system in fields.identifier_systems)
    lines.append("")
    asked = file.questions
    if asked is None:
        return [*lines, "Nobody may ask through the lock. 不允许通过网关查询。"]
    lines.append(
        f"Questions 查询: {', '.join(asked.types)}, by {', '.join(asked.roles)} of {', '.join(asked.organisations)}, "
        f"for {', '.join(asked.purposes)}; at most {asked.max_count} resources, {asked.max_bytes} bytes, "
        f"{asked.per_minute} a minute."
    )
    return lines
